"""What goes to a server: the same, by our fast way and by qdrant-client's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc
from qdrant_client.grpc.collections_pb2 import ListCollectionsResponse, ShardKey
from qdrant_client.grpc.points_pb2 import (
    GetResponse,
    PointsOperationResponse,
    RetrievedPoint,
    ScrollResponse,
    UpdateResult,
    UpdateStatus,
)

from diptych.config.storage import ClusterConfig
from diptych.stores import open_store
from diptych.stores.server_client import ServerClient

IDS: tuple[Any, ...] = (0, 2**64 - 1, "f47ac10b-58cc-4372-a567-0e02b2c3d479")
PAYLOAD: dict[str, Any] = {
    "text": "wörter" * 100,
    "n": 3,
    "bounds": [-(2**63), -1, 0, 2**63 - 1, 1.5, -0.0],
    "deep": {"list": [1, 2.5, None, True, False, "x", [], {}], "": {"": ""}},
    "none": None,
}
Points = list[models.PointStruct]


class Recorder(points_service_pb2_grpc.PointsServicer, collections_service_pb2_grpc.CollectionsServicer):
    """Keeps the requests it is sent, as bytes that do not depend on the order of maps; answers reads by `points`."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.reads: list[bytes] = []
        self.points: list[RetrievedPoint] = []

    def List(self, request: Any, context: Any) -> ListCollectionsResponse:  # noqa: N802
        return ListCollectionsResponse()

    def Upsert(self, request: Any, context: Any) -> PointsOperationResponse:  # noqa: N802
        self.writes.append(request.SerializeToString(deterministic=True))
        return PointsOperationResponse(result=UpdateResult(operation_id=7, status=UpdateStatus.Completed))

    UpdateVectors = Upsert

    def Get(self, request: Any, context: Any) -> GetResponse:  # noqa: N802
        self.reads.append(request.SerializeToString(deterministic=True))
        return GetResponse(result=self.points)

    def Scroll(self, request: Any, context: Any) -> ScrollResponse:  # noqa: N802
        self.reads.append(request.SerializeToString(deterministic=True))
        following = {"next_page_offset": self.points[-1].id} if request.limit == 3 else {}
        return ScrollResponse(result=self.points, **following)


@pytest.fixture
def listening() -> Iterator[tuple[Recorder, str]]:
    recorder, server = Recorder(), grpc.server(ThreadPoolExecutor(2))
    points_service_pb2_grpc.add_PointsServicer_to_server(recorder, server)
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(recorder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield recorder, f"127.0.0.1:{port}"
    server.stop(None).wait()


def library(place: str) -> QdrantClient:
    """qdrant-client as it comes."""
    host, port = place.split(":")
    return QdrantClient(host=host, grpc_port=int(port), prefer_grpc=True, check_compatibility=False)


def vectors(dimension: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(dimension)
    matrix = rng.normal(size=(3, dimension)).astype(np.float32)
    tokens = rng.normal(size=(3, 4, 2 * dimension)).astype(np.float32)[:, :, ::2]  # not contiguous
    sparse = models.SparseVector(indices=[1, 2**32 - 1], values=[0.5, float(np.float32(0.1))])
    return [{"d": matrix[i], "m": tokens[i], "s": sparse} for i in range(3)]


def listed(named: dict[str, Any]) -> dict[str, Any]:
    return {name: vector.tolist() if isinstance(vector, np.ndarray) else vector for name, vector in named.items()}


def both(dimension: int) -> tuple[Points, Points]:
    """Points with numpy vectors, and the same with lists."""
    make, rows = models.PointStruct.model_construct, list(zip(IDS, vectors(dimension), strict=True))
    ours = [make(id=i, vector=named, payload=PAYLOAD) for i, named in rows]
    return ours, [models.PointStruct(id=i, vector=listed(named), payload=PAYLOAD) for i, named in rows]


@pytest.mark.parametrize("dimension", [1, 31, 32, 384, 5000])  # lengths of one, two and three bytes
def test_grpc_carries_numpy_vectors_exactly_as_lists(listening: tuple[Recorder, str], dimension: int) -> None:
    recorder, place = listening
    ours, plain = both(dimension)
    own = library(place)
    with closing(open_store(f"grpc://{place}")) as fast, closing(own):
        for ordering in (None, models.WriteOrdering.STRONG):
            assert fast.upsert("c", ours, ordering=ordering).operation_id == 7
            own.upsert("c", plain, ordering=ordering)
        fast.upsert("c", ours, shard_key_selector="eu")
        own.upsert("c", plain, shard_key_selector="eu")
        fast.upsert("c", plain)  # lists go the library's way
        own.upsert("c", plain)
        bare = [point.model_copy(update={"vector": {}}) for point in plain]  # such as of text indexes alone
        fast.upsert("c", bare)
        own.upsert("c", bare)
        make = models.PointVectors
        fast.update_vectors("c", [make.model_construct(id=p.id, vector=p.vector) for p in ours])
        own.update_vectors("c", [make(id=p.id, vector=p.vector) for p in plain])
    assert len(recorder.writes) == 12
    assert recorder.writes[::2] == recorder.writes[1::2]


def test_grpc_reads_ask_and_return_as_the_library_does(listening: tuple[Recorder, str]) -> None:
    recorder, place = listening
    keys = [None, ShardKey(keyword="eu"), ShardKey(number=0)]
    payloads = [PAYLOAD | {"empty": "", "": "no key"}, {}, {"text": "", "zero": 0, "no": False}]
    recorder.points = [
        RetrievedPoint(id=RestToGrpc.convert_extended_point_id(i), payload=payload_to_grpc(payload), shard_key=key)
        for i, payload, key in zip(IDS, payloads, keys, strict=True)
    ]
    own = library(place)
    chosen = models.Filter(must=[models.HasIdCondition(has_id=list(IDS))])
    exclude = models.PayloadSelectorExclude(exclude=["n"])
    with closing(open_store(f"grpc://{place}")) as fast, closing(own):
        found: list[Any] = []
        for client in (fast, own):
            for wanted in (True, False, ["text", "deep.list"], exclude):
                found.append(client.retrieve("c", list(IDS), with_payload=wanted))
                found.append(client.scroll("c", chosen, limit=3, offset=IDS[2], with_payload=wanted))
            found.append(client.scroll("c", limit=2, offset=0))
            found.append(client.retrieve("c", list(IDS), consistency=2, timeout=7))
            found.append(client.scroll("c", limit=3, order_by="n", shard_key_selector="eu"))
    half = len(found) // 2
    assert found[:half] == found[half:]
    assert [record.payload for record in found[0]] == payloads
    assert [record.id for record in found[0]] == list(IDS)
    assert found[1][1] == IDS[2]
    assert found[8][1] is None
    assert recorder.reads[:half] == recorder.reads[half:]


def test_grpc_reads_of_a_cluster_carry_its_shard_key_and_consistency(listening: tuple[Recorder, str]) -> None:
    recorder, place = listening
    own = library(place)
    cluster = ClusterConfig(shard_key="eu", read_consistency="majority")
    with closing(open_store(f"grpc://{place}", cluster=cluster)) as fast, closing(own):
        fast.retrieve("c", list(IDS))
        fast.scroll("c", limit=2)
        routing: Any = {"consistency": models.ReadConsistencyType.MAJORITY, "shard_key_selector": "eu"}
        own.retrieve("c", list(IDS), **routing)
        own.scroll("c", limit=2, **routing)
        with_tuples: Any = ("text", "n")
        assert fast.retrieve("c", list(IDS), with_payload=with_tuples) == own.retrieve("c", list(IDS), with_tuples)
    assert recorder.reads[:2] == recorder.reads[2:4]


def test_http_carries_the_same_numbers_in_fewer_bytes(small_server: Callable[..., Any]) -> None:
    server = small_server()
    bodies: list[tuple[str, bytes]] = []
    ours, plain = both(384)
    client = open_store(server.url)
    assert isinstance(client, ServerClient)

    def recorded(request: Any, send: Any) -> Any:
        bodies.append((str(request.url), request.content))
        return send(request)

    size = {"size": 384, "distance": models.Distance.DOT}
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection(
        "c",
        {"d": models.VectorParams(**size), "m": models.VectorParams(**size, multivector_config=several)},
        sparse_vectors_config={"s": models.SparseVectorParams()},
    )
    client.http.client.add_middleware(recorded)
    with closing(client):
        assert client.upsert("c", ours).status == models.UpdateStatus.COMPLETED
        stored = server.store.retrieve("c", list(IDS), with_vectors=True)
        client.upsert("c", plain)
        assert server.store.retrieve("c", list(IDS), with_vectors=True) == stored
        client.update_vectors("c", [models.PointVectors.model_construct(id=p.id, vector=p.vector) for p in ours])
    (fast_url, fast), (plain_url, slow), (_, update) = bodies
    assert fast_url == plain_url
    assert as_float32(json.loads(fast)) == as_float32(json.loads(slow))
    assert len(fast) < 0.7 * len(slow)
    assert [set(point) for point in json.loads(update)["points"]] == [{"id", "vector"}] * 3


def as_float32(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: as_float32(value) for key, value in found.items() if value is not None}
    if isinstance(found, list):
        return [as_float32(value) for value in found]
    return np.float32(found) if isinstance(found, float) else found
