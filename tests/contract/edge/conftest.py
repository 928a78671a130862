"""Two stores with the same content, and what it means that they answer the same.

An EdgeClient is compared with local mode, with a server where one is named, and over its own REST routes
with another EdgeClient: by qdrant-client as it comes (`rest`) and by the client of processes that share (`remote`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych_edge import EdgeClient
from diptych_edge.share.address import Address, read_address
from diptych_edge.share.remote import RemoteEdgeClient

DENSE = {"cos": "Cosine", "dot": "Dot", "euclid": "Euclid", "man": "Manhattan"}
DIM = 8
POINTS = 150
TOLERANCE = 1e-5
TIE = 2e-6  # scores nearer than this may come in either order
WORDS = ("red", "fox", "blue", "whale", "sings", "green", "tree", "frog", "slowly", "north")
CITIES = ((13.4, 52.5), (2.35, 48.85), (-0.12, 51.5), (139.7, 35.7))  # lon, lat
INDEXES: dict[str, Any] = {
    "kind": models.PayloadSchemaType.KEYWORD,
    "rank": models.PayloadSchemaType.INTEGER,
    "price": models.PayloadSchemaType.FLOAT,
    "flag": models.PayloadSchemaType.BOOL,
    "when": models.PayloadSchemaType.DATETIME,
    "where": models.PayloadSchemaType.GEO,
    "key": models.PayloadSchemaType.UUID,
    "tags[]": models.PayloadSchemaType.KEYWORD,
    "body": models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=True),
}


@dataclass
class Pair:
    """An EdgeClient and the store it is compared with; every call goes to both.

    `behind` is the EdgeClient that answers over REST, where that is the other store; `connect` makes a client of it.
    """

    edge: EdgeClient
    other: QdrantBase
    name: str
    behind: EdgeClient | None = None
    connect: Callable[[Address], QdrantBase] | None = None

    @property
    def is_server(self) -> bool:
        """Whether the other store is the named server."""
        options = getattr(self.other, "init_options", None) or {}
        return self.behind is None and options.get("location") != ":memory:"

    def require(self, since: tuple[int, ...], needs: str) -> None:
        """Skip the test where the other store is a server below a version."""
        if self.is_server:
            from named_server import require_version

            require_version(self.other, since, needs)

    def reopen(self) -> None:
        """Close the EdgeClient and open its folder again; also that behind REST, whose IDF forgets deleted points."""
        self.edge.close()
        self.edge = EdgeClient(self.edge.path)
        if self.behind is not None and self.connect is not None:
            self.other.close()
            self.behind.close()
            self.behind = EdgeClient(self.behind.path)
            self.other = connected(self.behind, self.connect)

    def close(self) -> None:
        """Close all of it."""
        self.edge.close()
        self.other.delete_collection(self.name)
        self.other.close()
        if self.behind is not None:
            self.behind.close()

    def do(self, call: Callable[[QdrantBase, str], object]) -> None:
        """The same write to both."""
        call(self.edge, self.name)
        call(self.other, self.name)

    def ask(self, call: Callable[[QdrantBase, str], Any]) -> tuple[Any, Any]:
        """Both answers to the same question."""
        return call(self.edge, self.name), call(self.other, self.name)

    def same(self, call: Callable[[QdrantBase, str], Any]) -> Any:
        """The answer, after a check that both are equal but for rounding."""
        mine, theirs = self.ask(call)
        assert plain(mine) == approximately(plain(theirs))
        return mine

    def same_ranking(self, **query: Any) -> list[models.ScoredPoint]:
        """The found points, after a check that both rank the same, ties in any order."""
        mine, theirs = self.ask(lambda client, name: client.query_points(name, **query).points)
        check_ranking(mine, theirs)
        return mine  # type: ignore[no-any-return]

    @staticmethod
    def equal(mine: Any, theirs: Any) -> None:
        """That two answers are equal but for rounding."""
        assert plain(mine) == approximately(plain(theirs))

    @staticmethod
    def check(mine: Sequence[models.ScoredPoint], theirs: Sequence[models.ScoredPoint]) -> None:
        """That two rankings agree, ties in any order."""
        check_ranking(mine, theirs)

    def same_content(self) -> list[models.Record]:
        """All points, after a check that both hold the same."""
        mine, theirs = self.ask(everything)
        assert plain(mine) == approximately(plain(theirs))
        return mine  # type: ignore[no-any-return]


def everything(client: QdrantBase, name: str) -> list[models.Record]:
    records, rest = client.scroll(name, limit=10_000, with_payload=True, with_vectors=True)
    assert rest is None
    return sorted(records, key=lambda record: str(record.id))


def check_ranking(mine: Sequence[models.ScoredPoint], theirs: Sequence[models.ScoredPoint]) -> None:
    """Scores equal place by place; ids equal among equal scores, except where the limit cuts a tie."""
    assert [p.score for p in mine] == pytest.approx([p.score for p in theirs], rel=TOLERANCE, abs=TOLERANCE)
    ties = ties_of(theirs), ties_of(mine)
    for theirs_tie, mine_tie in list(zip(*ties, strict=True))[:-1]:
        assert mine_tie == theirs_tie
    by_id = {p.id: p for p in theirs}
    for point in mine:
        if point.id in by_id:
            assert point.payload == by_id[point.id].payload


def ties_of(points: Sequence[models.ScoredPoint]) -> list[set[Any]]:
    """Ids with (nearly) one score, best first."""
    steps = np.abs(np.diff([p.score for p in points], prepend=points[0].score if points else 0)) > TIE
    return [{p.id for _, p in tie} for _, tie in groupby(zip(np.cumsum(steps), points, strict=True), lambda x: x[0])]


def plain(found: Any) -> Any:
    """JSON values of any answer."""
    if hasattr(found, "model_dump"):
        return plain(found.model_dump(mode="json", exclude_none=True))
    if isinstance(found, dict):  # over gRPC a payload that was not asked for is an empty one
        return {key: plain(value) for key, value in found.items() if (key, value) != ("payload", {})}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return found


def approximately(found: Any) -> Any:
    """`found` with room for rounding in its floats."""
    if isinstance(found, float):
        return pytest.approx(found, rel=TOLERANCE, abs=TOLERANCE)
    if isinstance(found, dict):
        return {key: approximately(value) for key, value in found.items()}
    if isinstance(found, list):
        return [approximately(value) for value in found]
    return found


class World:
    """Random vectors, payloads and points from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng, self.np = random.Random(seed), np.random.default_rng(seed)
        self.ids: list[int | str] = [
            i if i % 3 else str(UUID(int=self.rng.getrandbits(128), version=4)) for i in range(1, POINTS + 1)
        ]

    def dense(self) -> list[float]:
        return [float(x) for x in self.np.normal(size=DIM).astype(np.float32)]

    def sparse(self, terms: int = 5) -> models.SparseVector:
        indices = sorted(self.rng.sample(range(30), terms))
        return models.SparseVector(indices=indices, values=[round(self.rng.uniform(0.1, 2), 3) for _ in indices])

    def multi(self) -> list[list[float]]:
        return [self.dense() for _ in range(self.rng.randint(1, 4))]

    def vectors(self) -> dict[str, Any]:
        """Vectors of a point, now and then without one of them."""
        found: dict[str, Any] = {name: self.dense() for name in DENSE}
        found |= {"sparse": self.sparse(), "multi": self.multi()}
        if self.rng.random() < 0.2:
            del found[self.rng.choice(list(found))]
        return found

    def payload(self) -> dict[str, Any]:
        """A payload, now and then without one of its fields."""
        rng = self.rng
        lon, lat = rng.choice(CITIES)
        found: dict[str, Any] = {
            "kind": rng.choice("abcd"),
            "rank": rng.randint(0, 20),
            "price": round(rng.uniform(0, 10), 2),
            "flag": rng.random() < 0.5,
            "when": f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T10:00:00Z",
            "where": {"lon": round(lon + rng.uniform(-1, 1), 4), "lat": round(lat + rng.uniform(-1, 1), 4)},
            "key": str(UUID(int=rng.randint(0, 5), version=4)),
            "tags": rng.sample(["x", "y", "z", "w"], rng.randint(0, 3)),
            "body": " ".join(rng.choices(WORDS, k=rng.randint(3, 12))),
            "parts": [{"size": rng.randint(0, 5), "made": rng.choice("mn")} for _ in range(rng.randint(0, 3))],
            "none": None,
        }
        for name in rng.sample(list(found), rng.randint(0, 2)):
            del found[name]
        return found

    def point(self, identifier: int | str) -> models.PointStruct:
        return models.PointStruct(id=identifier, vector=self.vectors(), payload=self.payload())

    def points(self) -> list[models.PointStruct]:
        return [self.point(identifier) for identifier in self.ids]

    def some_ids(self, count: int = 5) -> list[Any]:
        return self.rng.sample(self.ids, count)


def vectors_config() -> dict[str, models.VectorParams]:
    maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    dense = {name: models.VectorParams(size=DIM, distance=models.Distance(kind)) for name, kind in DENSE.items()}
    return dense | {"multi": models.VectorParams(size=DIM, distance=models.Distance.COSINE, multivector_config=maxsim)}


def other_store(kind: str) -> QdrantBase:
    if kind == "memory":
        return QdrantClient(":memory:")
    from named_server import server_client

    return server_client()


def connected(holder: EdgeClient, connect: Callable[[Address], QdrantBase]) -> QdrantBase:
    """A client at the socket where `holder` answers."""
    address = read_address(holder.path)
    assert address is not None
    return connect(address)


def plain_client(address: Address) -> QdrantClient:
    """qdrant-client as it comes, at a Unix socket."""
    transport = httpx.HTTPTransport(uds=address.unix)
    return QdrantClient(url="http://edge", port=None, check_compatibility=False, transport=transport, timeout=60)


OVER_REST: dict[str, Callable[[Address], QdrantBase]] = {"rest": plain_client, "remote": RemoteEdgeClient}
STORES = ["memory", "rest", "remote", pytest.param("server", marks=pytest.mark.server)]


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Pair]:
    """Both stores without a collection."""
    name = f"diptych-{uuid4().hex[:8]}"
    if kind in OVER_REST:
        behind, connect = EdgeClient(folder.with_name(f"{folder.name}-other")), OVER_REST[kind]
        pair = Pair(EdgeClient(folder), connected(behind, connect), name, behind, connect)
    else:
        pair = Pair(EdgeClient(folder), other_store(kind), name)
    yield pair
    pair.close()


def fill(pair: Pair, points: list[models.PointStruct], *indexed: str) -> Pair:
    """Both stores with a collection of these points and indexes of these payload fields."""
    sparse = {"sparse": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    pair.do(lambda client, name: client.create_collection(name, vectors_config(), sparse_vectors_config=sparse))
    for field in indexed:
        pair.do(lambda client, name, f=field: client.create_payload_index(name, f, INDEXES[f]))  # type: ignore[misc]
    pair.do(lambda client, name: client.upsert(name, points))
    return pair


@pytest.fixture(scope="module", params=STORES)
def kind_of_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty(kind_of_store: str, tmp_path: Path) -> Iterator[Pair]:
    """Both stores without a collection, for one test."""
    with opened(kind_of_store, tmp_path / "edge") as pair:
        yield pair


@pytest.fixture(scope="module", params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def pair(kind_of_store: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both stores with the same random points, for all the tests of a module: they only read."""
    with opened(kind_of_store, tmp_path_factory.mktemp("edge")) as pair:
        yield fill(pair, World(seed).points(), *INDEXES)


@pytest.fixture
def filled(empty: Pair, seed: int) -> Pair:
    """Both stores with the same random points, for one test that writes."""
    return fill(empty, World(seed).points(), "kind", "rank")


@pytest.fixture
def world(seed: int) -> World:
    """Goes on where the points of `pair` and `filled` ended."""
    return deepcopy(_after_points(seed))


@cache
def _after_points(seed: int) -> World:
    made = World(seed)
    made.points()
    return made
