from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client import models as m
from qdrant_client.client_base import QdrantBase

from diptych.errors import (
    CollectionError,
    CollectionNotFound,
    DiptychError,
    SearchError,
    StoreError,
    StoreUnsupported,
)
from diptych_edge import EdgeClient
from diptych_edge.client.base import SERVER_METHODS

V = [1.0, 2.0, 3.0, 4.0]
Call = Callable[[EdgeClient], object]


def upsert(vector: Any, identifier: Any = 1) -> Call:
    return lambda c: c.upsert("docs", [m.PointStruct.model_construct(id=identifier, vector=vector, payload={})])


def query(query: Any, **arguments: Any) -> Call:
    return lambda c: c.query_points("docs", query, **arguments)


def words(indices: list[int], values: list[float]) -> m.SparseVector:
    return m.SparseVector.model_construct(indices=indices, values=values)


WRITES: dict[str, tuple[Call, str]] = {
    "wrong dimension": (upsert({"dense": V[:3]}), r"(?s)does not fit 'dense'.*point 1.*3 numbers.*dense vector of 4"),
    "wrong array": (upsert({"dense": np.ones((2, 4))}), r"(?s)does not fit 'dense'.*shape \(2, 4\)"),
    "rows for a dense vector": (upsert({"dense": [V]}), r"(?s)does not fit 'dense'.*1 rows"),
    "unknown vector": (upsert({"dens": V}), r"(?s)no vector 'dens'.*'dense', 'tokens', 'words'.*create_vector_name"),
    "unnamed vector": (upsert(V), r"(?s)no unnamed vector.*name one of these"),
    "flat multi-vector": (upsert({"tokens": V}), r"(?s)does not fit 'tokens'.*rows of 4"),
    "empty multi-vector": (upsert({"tokens": []}), r"(?s)does not fit 'tokens'.*at least one"),
    "ragged multi-vector": (upsert({"tokens": [V, V[:2]]}), r"(?s)does not fit 'tokens'.*rows of 4"),
    "dense for sparse": (upsert({"words": V}), r"(?s)does not fit 'words'.*indices and values"),
    "uneven sparse": (
        upsert({"words": words([1, 2], [0.5])}),
        r"(?s)does not fit 'words'.*2 indices, 1 values",
    ),
    "nan": (upsert({"dense": [1.0, float("nan"), 3.0, 4.0]}), r"(?s)not fit 'dense'.*nan at position 1.*finite"),
    "infinity in an array": (
        upsert({"dense": np.array([1, 2, -np.inf, 4], np.float32)}), r"(?s)not fit 'dense'.*-inf at position 2.*finite"
    ),
    "too large for float32": (upsert({"dense": [*V[:3], 1e39]}), r"(?s)not fit 'dense'.*1e\+39 at position 3.*float32"),
    "an array too large for float32": (
        upsert({"dense": np.array([-1e39, 1e39, 0, 0])}), r"(?s)not fit 'dense'.*-1e\+39 at position 0.*float32"
    ),
    "nan in a half-precision array": (upsert({"dense": np.full(4, np.nan, np.float16)}), "(?s)'dense'.*nan at"),
    "nan in a list of numpy's": (upsert({"dense": list(np.full(4, np.nan, np.float32))}), "(?s)'dense'.*nan at"),
    "an integer beyond all floats": (upsert({"dense": [1, 2, 3, 10**400]}), "(?s)not fit 'dense'.*at position 3"),
    "infinite multi-vector": (upsert({"tokens": [V, [1.0, np.inf, 1.0, 1.0]]}), "(?s)'tokens'.*inf at position 1"),
    "nan in a multi-vector's array": (
        upsert({"tokens": np.array([V, [np.nan] * 4])}), "(?s)not fit 'tokens'.*nan at position 4"
    ),
    "nan in a sparse vector": (upsert({"words": words([1, 2], [0.5, np.nan])}), "(?s)'words'.*nan at position 1"),
    "a sparse index twice": (upsert({"words": words([5, 7, 5], [1.0] * 3)}), "(?s)'words'.*index 5 more than once"),
    "a negative sparse index": (upsert({"words": words([3, -1], [1.0] * 2)}), "(?s)'words'.*index -1.*from 0 to"),
    "a sparse index beyond 32 bits": (upsert({"words": words([2**32], [1.0])}), "(?s)'words'.*index 4294967296"),
    "an Edge sparse vector with an index twice": (
        upsert({"words": edge.SparseVector([1, 1], [1.0, 1.0])}), "(?s)'words'.*index 1 more than once"
    ),
    "nan in a batch": (
        lambda c: c.upsert("docs", m.Batch(ids=[8, 9], vectors={"dense": [V, [np.nan] * 4]})), "(?s)point 9.*nan"
    ),
    "nan in new vectors": (
        lambda c: c.update_vectors("docs", [m.PointVectors(id=1, vector={"dense": [np.inf] * 4})]), "(?s)point 1.*inf"
    ),
    "words for numbers": (upsert({"dense": ["a", "b", "c", "d"]}), r"a vector or payload that Qdrant cannot keep"),
    "bad id": (upsert({"dense": V}, "not-a-uuid"), r"(?s)not a point id.*not-a-uuid.*integer from 0, or a UUID"),
    "negative id": (upsert({"dense": V}, -1), r"(?s)not a point id.*-1.*integer from 0, or a UUID"),
    "payload of no JSON": (
        lambda c: c.upsert("docs", [m.PointStruct(id=9, vector={}, payload={"a": object()})]),
        r"(?s)payload that Qdrant cannot keep.*point 9",
    ),
    "a filter of bad ids": (
        lambda c: c.delete("docs", m.Filter(must=[m.HasIdCondition(has_id=["zz"])])), r"(?s)not a point id.*zz"
    ),
    "deleting a bad id": (lambda c: c.delete("docs", ["zz"]), r"(?s)not a point id.*zz"),
    "nothing to write": (lambda c: c.upsert("docs", []), "no points to write"),
    "ragged batch": (
        lambda c: c.upsert("docs", m.Batch(ids=[1, 2], vectors={"dense": [V]}, payloads=None)),
        r"(?s)columns of a batch differ in length.*where: dense.*got: 1.*expected: 2",
    ),
    "update of a missing point": (
        lambda c: c.update_vectors("docs", [m.PointVectors(id=77, vector={"dense": V})]), "no point 77"
    ),
    "no vectors to update": (lambda c: c.update_vectors("docs", []), "no vectors to write"),
    "deleting an unknown vector": (lambda c: c.delete_vectors("docs", ["x"], [1]), "no vector 'x'"),
    "dropping an unknown vector": (lambda c: c.delete_vector_name("docs", "x"), "(?s)no vector 'x'.*'dense'"),
    "adding a known vector": (
        lambda c: c.create_vector_name(
            "docs", "dense", m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=4, distance=m.Distance.DOT))
        ),
        "there is a vector 'dense' already",
    ),
    "an index of no type": (lambda c: c.create_payload_index("docs", "k"), "(?s)the index has no type.*'k'"),
    "a batch operation without points": (
        lambda c: c.batch_update_points(
            "docs", [m.SetPayloadOperation(set_payload=m.SetPayload(payload={"a": 1}))]
        ),
        "(?s)selects no points.*points.*filter",
    ),
    "taken name": (lambda c: c.create_collection("docs", {}), "there is a collection 'docs' already"),
    "impossible name": (lambda c: c.create_collection("a/b", {}), "(?s)cannot be the name of a collection.*'a/b'"),
    "no name": (lambda c: c.create_collection("", {}), "cannot be the name of a collection"),
    "impossible size": (
        lambda c: c.create_collection("x", {"v": m.VectorParams(size=70_000, distance=m.Distance.DOT)}),
        "(?s)size is impossible.*70000.*1 to 65536",
    ),
    "settings of an unknown vector": (
        lambda c: c.update_collection("docs", vectors_config={"x": m.VectorParamsDiff(on_disk=True)}), "no vector 'x'"
    ),
}  # fmt: skip
SEARCHES: dict[str, tuple[Call, str]] = {
    "wrong dimension": (query(V[:3], using="dense"), r"(?s)wrong dimension.*'docs'.*got: 3.*expected: 4"),
    "nan": (query([1.0, float("nan"), 3.0, 4.0], using="dense"), "(?s)cannot be compared.*nan at position 1.*finite"),
    "infinity in an array": (query(np.array([np.inf] * 4), using="dense"), "(?s)cannot be compared.*inf at position 0"),
    "nan in a multi-vector": (query([V, [np.nan] * 4], using="tokens"), "(?s)cannot be compared.*nan at position 0"),
    "nan in a prefetch": (
        query(m.RrfQuery(rrf=m.Rrf()), prefetch=[m.Prefetch(query=[np.nan] * 4, using="dense")]), "cannot be compared"
    ),
    "nan as an example": (
        query(m.RecommendQuery(recommend=m.RecommendInput(positive=[[np.nan] * 4])), using="dense"),
        "cannot be compared",
    ),
    "a sparse index twice": (query(words([5, 5], [1.0] * 2), using="words"), "(?s)compared.*index 5 more than once"),
    "a negative sparse index": (query(words([-5], [1.0]), using="words"), "(?s)cannot be compared.*index -5"),
    "uneven sparse": (query(words([1, 5], [1.0]), using="words"), "(?s)cannot be compared.*2 indices, 1 values"),
    "infinite sparse": (query(words([1], [np.inf]), using="words"), "(?s)cannot be compared.*inf at position 0"),
    "unknown vector": (query(V, using="x"), r"(?s)no vector 'x'.*get_collection"),
    "no using": (query(V), r"(?s)no unnamed vector.*`using`"),
    "dense for sparse": (query(V, using="words"), "a sparse vector where another kind is expected"),
    "a missing point": (query(99, using="dense"), "there is no point 99"),
    "a point without it": (query(1, using="tokens"), "point 1 has no vector 'tokens'"),
    "an id that is none": (query("abc", using="dense"), r"(?s)not a point id.*abc"),
    "what is not a query": (query({"a": 1}, using="dense"), "(?s)not a query.*dict.*a vector, a point id"),
    "limit": (query(V, using="dense", limit=0), "(?s)limit is too small.*0"),
    "offset": (query(V, using="dense", offset=-1), "offset is too small"),
    "prefetch limit": (
        query(m.RrfQuery(rrf=m.Rrf()), prefetch=m.Prefetch(query=V, using="dense", limit=0)),
        "limit of a prefetch is too small",
    ),
    "prefetch without query": (query(None, prefetch=m.Prefetch(query=V, using="dense")), "prefetches need a query"),
    "threshold without query": (query(None, score_threshold=0.5), "threshold needs a query"),
    "rrf k": (query(m.RrfQuery(rrf=m.Rrf(k=0)), prefetch=[m.Prefetch(query=V, using="dense")]), "k of an RRF"),
    "fusion of nothing": (query(m.FusionQuery(fusion=m.Fusion.RRF)), "(?s)refuse.*without prefetches"),
    "text without a field": (query(m.TextQuery(text="a")), "text query names no field"),
    "text without an index": (query(m.TextQuery(text="a"), using="t"), "(?s)index is missing.*create_payload_index"),
    "average of nothing": (
        query(m.RecommendQuery(recommend=m.RecommendInput(negative=[V])), using="dense"), "no positive examples"
    ),
    "recommendation needs examples": (
        query(m.RecommendQuery(recommend=m.RecommendInput(strategy=m.RecommendStrategy.BEST_SCORE)), using="dense"),
        "recommendation needs examples",
    ),
    "facet without an index": (lambda c: c.facet("docs", "k"), "(?s)payload index is missing.*create_payload_index"),
    "counting a bad id": (
        lambda c: c.count("docs", m.Filter(must=[m.HasIdCondition(has_id=["zz"])])), r"(?s)not a point id.*zz"
    ),
    "scroll limit": (lambda c: c.scroll("docs", limit=0), "limit is too small"),
    "an unknown vector to return": (lambda c: c.retrieve("docs", [1], with_vectors=["x"]), "no vector 'x'"),
    "group limit": (lambda c: c.query_points_groups("docs", "k", query=V, using="dense", limit=0), "too small"),
    "matrix sample": (lambda c: c.search_matrix_pairs("docs", sample=1, using="dense"), "too small"),
}  # fmt: skip
SERVER_ONLY: dict[str, tuple[Call, str]] = {
    "inference": (query(m.Document(text="a", model="b"), using="dense"), "(?s)no inference.*Document.*encode it first"),
    "shard key of a query": (query(V, using="dense", shard_key_selector="k"), "shard_key_selector"),
    "shard key of a selector": (
        lambda c: c.delete("docs", m.PointIdsList(points=[1], shard_key="k")), "(?s)no shard keys.*http"
    ),
    "several shards": (lambda c: c.create_collection("x", {}, shard_number=3), "(?s)shard_number.*got: 3.*http"),
    "replicas": (lambda c: c.create_collection("x", {}, replication_factor=2), "(?s)replication_factor.*got: 2"),
}  # fmt: skip


def check(client: EdgeClient, call: Call, kind: type[DiptychError], text: str) -> None:
    before = client.scroll("docs", with_vectors=True)
    with pytest.raises(kind, match=text):
        call(client)
    assert client.scroll("docs", with_vectors=True) == before


@pytest.mark.parametrize("case", list(WRITES))
def test_a_write_that_does_not_fit_is_told_and_changes_nothing(shared_docs: EdgeClient, case: str) -> None:
    call, text = WRITES[case]
    check(shared_docs, call, CollectionError, text)


@pytest.mark.parametrize("case", list(SEARCHES))
def test_a_search_that_cannot_be_run_is_told(shared_docs: EdgeClient, case: str) -> None:
    call, text = SEARCHES[case]
    check(shared_docs, call, (SearchError, StoreError), text)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", list(SERVER_ONLY))
def test_what_takes_a_server_names_it(shared_docs: EdgeClient, case: str) -> None:
    call, text = SERVER_ONLY[case]
    check(shared_docs, call, StoreUnsupported, text)


def test_a_batch_with_one_bad_point_writes_none_even_after_reopening(docs: EdgeClient) -> None:
    good, bad = ({"dense": V}, {"dense": V[:2]})
    points = [m.PointStruct(id=10, vector=good, payload={}), m.PointStruct(id=11, vector=bad, payload={})]
    with pytest.raises(CollectionError, match="point 11"):
        docs.upsert("docs", points)
    docs.close()
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4


@pytest.mark.parametrize("method", ["count", "scroll", "get_collection", "delete_payload_index", "needs_optimizing"])
def test_an_unknown_collection_is_told_with_those_there_are(shared_docs: EdgeClient, method: str) -> None:
    extra = ["field"] if method == "delete_payload_index" else []
    with pytest.raises(CollectionNotFound, match=r"(?s)no collection 'dosc'.*docs"):
        getattr(shared_docs, method)("dosc", *extra)


@pytest.mark.parametrize("method", SERVER_METHODS)
def test_server_methods_are_refused_by_name(shared_docs: EdgeClient, method: str) -> None:
    with pytest.raises(StoreUnsupported, match=rf"(?s)no {method}\(\).*http\(s\)://"):
        getattr(shared_docs, method)("docs")


def test_every_method_of_the_interface_is_served_or_refused() -> None:
    interface = {name for name in vars(QdrantBase) if not name.startswith("_")}
    assert {name for name in interface if getattr(EdgeClient, name) is getattr(QdrantBase, name)} == set()


def test_an_argument_nobody_knows_is_refused_and_a_harmless_one_passed_over(docs: EdgeClient) -> None:
    assert docs.count("docs", timeout=3).count == 4
    docs.delete("docs", [1], wait=False, ordering=m.WriteOrdering.STRONG)
    with pytest.raises(StoreError, match=r"(?s)count\(\) has no argument 'exakt'.*leave it out"):
        docs.count("docs", exakt=True)


def test_large_numbers_that_are_finite_are_taken(docs: EdgeClient) -> None:
    large = float(np.finfo(np.float32).max)
    vectors = [[large, -large, 0.0, 1.0], np.full(4, large, np.float32), np.full(4, large), np.array([1, 2, 3, 4])]
    for number, vector in enumerate(vectors):
        upsert({"dense": vector, "words": words([2**32 - 1, 0], [large, 1.0])}, 100 + number)(docs)
    assert docs.count("docs").count == 4 + len(vectors)


@pytest.mark.parametrize(
    "name", ["\ud800", "\0", "a" * 256, "\u00fc" * 130, "", "..", "a/b"], ids=lambda name: ascii(name)[:20]
)
def test_a_name_that_no_folder_or_server_takes_is_refused(tmp_path: Path, name: str) -> None:
    vector = m.VectorParams(size=4, distance=m.Distance.COSINE)
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", vectors_config={"a": vector})
        alias = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name="c", alias_name=name))
        refused: list[Callable[[], Any]] = [
            lambda: client.create_collection(name, vectors_config={"a": vector}),
            lambda: client.create_collection("d", vectors_config={name or "..": vector}),
            lambda: client.update_collection_aliases([alias]),
        ]
        for ask in refused:
            with pytest.raises(CollectionError, match="cannot be the name of"):
                ask()
        assert not client.collection_exists(name)
        with pytest.raises(CollectionNotFound):
            client.get_collection(name)
