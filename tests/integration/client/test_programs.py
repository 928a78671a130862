"""Programs as qdrant-client documents them, on our clients: they find what our encoders' vectors find by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

import diptych
from diptych import SparseVector
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.registry import Registry
from named_server import is_cluster, placed

TEXTS = [  # no two of them are found alike, since stores order ties as they like
    "convert sound files to other files",
    "record and mix many tracks of audio",
    "retouch photographs",
    "a scanner of network ports",
    "edit audio and sound tags, and edit covers",
]
QUERY = "edit audio files"


def vectors_of(encoders: Encoders, name: str, texts: list[str], side: str) -> list[Any]:
    """What a program without diptych.client would pass."""
    made = getattr(encoders[name], f"encode_{side}")(texts)
    return [
        models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist())
        if isinstance(v, SparseVector)
        else v.tolist()
        for v in made
    ]


def collection(client: Any) -> None:
    """One vector of each kind."""
    maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        "demo",
        vectors_config={
            "dense": models.VectorParams(size=64, distance=models.Distance.COSINE),
            "late": models.VectorParams(size=32, distance=models.Distance.COSINE, multivector_config=maxsim),
        },
        sparse_vectors_config={"sparse": models.SparseVectorParams()},
    )


def points(vector: Callable[[int, str], Any]) -> list[models.PointStruct]:
    """`vector(number, slot)` for each point and slot."""
    names = {"dense": "dense", "sparse": "lexical", "late": "late"}
    return [
        models.PointStruct(
            id=number,
            vector={name: vector(number, slot) for name, slot in names.items()},
            payload={"document": text, "half": number % 2},
        )
        for number, text in enumerate(TEXTS)
    ]


def by_name(number: int, slot: str) -> models.Document:
    return models.Document(text=TEXTS[number], model=slot)


def queries(ask: Callable[[str], Any]) -> dict[str, dict[str, Any]]:
    """The questions of the documentation, as arguments of `query_points`; `ask(slot)` is the query of a slot."""
    sparse = models.Prefetch(query=ask("lexical"), using="sparse", limit=4)
    dense = models.Prefetch(query=ask("dense"), using="dense", limit=4)
    rrf = models.FusionQuery(fusion=models.Fusion.RRF)
    fused = models.Prefetch(prefetch=[sparse, dense], query=rrf)
    mmr = models.NearestQuery(nearest=ask("dense"), mmr=models.Mmr(diversity=0.3, candidates_limit=5))
    best = models.RecommendStrategy.BEST_SCORE
    liked = models.RecommendInput(positive=[ask("dense"), 1], negative=[ask("dense")], strategy=best)
    pair = models.ContextPair(positive=1, negative=ask("dense"))
    return {
        "dense": {"query": ask("dense"), "using": "dense"},
        "sparse": {"query": ask("lexical"), "using": "sparse"},
        "late": {"query": ask("late"), "using": "late"},
        "hybrid": {"prefetch": [sparse, dense], "query": rrf},
        "one prefetch": {"prefetch": dense, "query": rrf},
        "rescored": {"prefetch": fused, "query": ask("late"), "using": "late"},
        "diverse": {"query": mmr, "using": "dense"},
        "recommended": {"query": models.RecommendQuery(recommend=liked), "using": "dense"},
        "discovered": {
            "query": models.DiscoverQuery(discover=models.DiscoverInput(target=ask("dense"), context=[pair])),
            "using": "dense",
        },
        "in context": {"query": models.ContextQuery(context=[pair]), "using": "dense"},
    }  # fmt: skip


def found(answer: Any) -> dict[Any, Any]:
    return {point.id: pytest.approx(point.score, abs=1e-5) for point in answer.points}


def scores(answer: Any) -> dict[Any, float]:
    return {point.id: point.score for point in answer.points}


@pytest.fixture
def by_hand(encoders: Encoders, plain: Callable[[], Any]) -> Any:
    """The same collection filled without us, and its questions."""
    client = plain()
    collection(client)
    made = {slot: vectors_of(encoders, slot, TEXTS, "document") for slot in ("dense", "lexical", "late")}
    client.upsert("demo", points(lambda number, slot: made[slot][number]))
    return client


def asked_by_hand(encoders: Encoders) -> dict[str, dict[str, Any]]:
    return queries(lambda slot: vectors_of(encoders, slot, [QUERY], "query")[0])


def asked_by_name() -> dict[str, dict[str, Any]]:
    return queries(lambda slot: models.Document(text=QUERY, model=slot))


@pytest.mark.parametrize("way", list(asked_by_name()))
def test_a_documented_query_finds_what_vectors_made_by_hand_find(
    client: Any, by_hand: Any, encoders: Encoders, way: str
) -> None:
    collection(client)
    client.upsert("demo", points(by_name))
    expected = by_hand.query_points("demo", **asked_by_hand(encoders)[way])
    assert scores(client.query_points("demo", **asked_by_name()[way])) == found(expected)
    assert expected.points, "the question finds something"


def test_a_batch_of_queries_and_groups_answer_as_each_query_does(client: Any) -> None:
    collection(client)
    client.upload_points("demo", points(by_name), wait=True)
    ways = [way for way in asked_by_name().values() if not isinstance(way.get("prefetch"), models.Prefetch)]
    requests = [models.QueryRequest(**{"limit": 10, **way}) for way in ways]
    for answer, way in zip(client.query_batch_points("demo", requests), ways, strict=True):
        assert scores(answer) == found(client.query_points("demo", **way))
    groups = client.query_points_groups("demo", "half", group_size=5, **asked_by_name()["hybrid"]).groups
    assert {group.id for group in groups} == {0, 1}
    assert groups[0].hits[0].id == client.query_points("demo", **asked_by_name()["hybrid"]).points[0].id


def upsert_batch(client: Any) -> None:
    named = {"dense": "dense", "sparse": "lexical", "late": "late"}
    columns: Any = {name: [by_name(i, slot) for i in range(len(TEXTS))] for name, slot in named.items()}
    client.upsert("demo", models.Batch(ids=list(range(len(TEXTS))), vectors=columns))


def upload_collection(client: Any) -> None:
    vectors = [point.vector for point in points(by_name)]
    client.upload_collection("demo", vectors=vectors, ids=range(len(TEXTS)), wait=True)


def upload_stream(client: Any) -> None:
    client.upload_collection("demo", vectors=(p.vector for p in points(by_name)), ids=iter(range(len(TEXTS))))


def updates(client: Any) -> None:
    empty = [models.PointStruct(id=i, vector={"dense": by_name(0, "dense")}) for i in range(len(TEXTS))]
    operation = models.UpsertOperation(upsert=models.PointsList(points=empty))
    client.batch_update_points("demo", [operation])
    client.update_vectors("demo", [models.PointVectors(id=p.id, vector=p.vector) for p in points(by_name)[:3]])
    rest = [models.PointVectors(id=p.id, vector=p.vector) for p in points(by_name)[3:]]
    client.batch_update_points(
        "demo", [models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=rest))]
    )


@pytest.mark.parametrize("write", [upsert_batch, upload_collection, upload_stream, updates])
def test_every_way_to_write_puts_the_encoders_vectors_there(
    client: Any, encoders: Encoders, write: Callable[[Any], None]
) -> None:
    collection(client)
    write(client)
    records = sorted(client.retrieve("demo", list(range(len(TEXTS))), with_vectors=True), key=lambda record: record.id)
    for name, slot in {"dense": "dense", "late": "late", "sparse": "lexical"}.items():
        for record, wanted in zip(records, vectors_of(encoders, slot, TEXTS, "document"), strict=True):
            have = record.vector[name]
            if name == "sparse":
                assert dict(zip(have.indices, have.values, strict=True)) == dict(
                    zip(wanted.indices, wanted.values, strict=True)
                )
            else:
                assert np.asarray(have) == pytest.approx(np.asarray(wanted), abs=1e-6)


def test_images_and_texts_meet_in_one_space(client: Any, tmp_path: Path) -> None:
    for letter in "abc":
        (tmp_path / f"{letter}.png").write_bytes(letter.encode())
    client.create_collection("shots", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    shots = [models.Image(image=tmp_path / f"{letter}.png", model="pictures") for letter in "ab"]
    other = models.InferenceObject(object=str(tmp_path / "c.png"), model="pictures")
    client.upsert("shots", [models.PointStruct(id=i, vector=v) for i, v in enumerate([*shots, other])])
    for number, letter in enumerate("abc"):
        answer = client.query_points("shots", models.Document(text=letter, model="letters"), limit=1)
        assert (answer.points[0].id, answer.points[0].score) == (number, pytest.approx(1))


@pytest.mark.parametrize("kind", ["memory:", "server"])
def test_the_asyncio_client_answers_as_the_other_does(
    encoders: Encoders, by_hand: Any, registry: Registry, tmp_path: Path, kind: str
) -> None:
    if kind == "server" and is_cluster():
        pytest.skip("no asyncio client keeps to a config's cluster section")

    async def program(place: dict[str, Any]) -> dict[str, Any]:
        config = parse_config({**place, "collection": "demo", "slots": {"dense": {"adapter": "fake-dense"}}})
        client = diptych.async_client(config=config, encoders=encoders, registry=registry)
        collection_made = client.create_collection
        await collection_made(
            "demo",
            vectors_config=by_hand.get_collection("demo").config.params.vectors,
            sparse_vectors_config={"sparse": models.SparseVectorParams()},
        )
        await client.upsert("demo", points(by_name)[:2])
        client.upload_points("demo", points(by_name)[2:])
        answers = await asyncio.gather(*(client.query_points("demo", **way) for way in asked_by_name().values()))
        requests = [models.QueryRequest(query=models.Document(text=QUERY, model="dense"), using="dense", limit=2)]
        (batch,) = await client.query_batch_points("demo", requests)
        assert scores(batch) == found(await client.query_points("demo", requests[0].query, using="dense", limit=2))
        assert client.get_embedding_size("dense") == 64
        await client.close()
        return dict(zip(asked_by_name(), answers, strict=True))

    with placed(kind, tmp_path, "demo") as place:
        answers = asyncio.run(program(place))
    for way, answer in answers.items():
        assert scores(answer) == found(by_hand.query_points("demo", **asked_by_hand(encoders)[way])), way
