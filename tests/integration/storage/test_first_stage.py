"""A first stage searches the beginnings of vectors, and the whole vectors score its best anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import models

import rows as support
from diptych import Collection, Registry, hookimpl
from diptych.config import check_adapters, parse_config
from diptych.errors import CollectionError, ConfigError
from diptych.search import Retrieve, Rrf
from diptych.testing import fakes_plugin
from diptych.types import Hit
from diptych_edge import EdgeClient
from named_server import STORE, placed

COUNT, LIMIT, SHORT = 1500, 10, 16
QUERIES = [f"q{n}" for n in range(support.QUERIES)]
ROWS: dict[str, Any] = {"adapter": "rows", "count": COUNT}
FIRST: dict[str, Any] = {"dimension": SHORT, "oversampling": 3}
Open: TypeAlias = Callable[..., Collection]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a filled collection with a first stage."""
    names = [f"c{number}" for number in range(4)]
    with placed(STORE, tmp_path / "store", *names, shards=1) as place, ExitStack() as stack:
        left = iter(names)

        def make(first: Mapping[str, Any] = FIRST, *, similarity: str = "cosine", **more: Any) -> Collection:
            dense = {
                "adapter": "rows",
                "count": COUNT,
                "similarity": similarity,
                "storage": {"first_stage": dict(first)},
            }
            slots = {"dense": dense, **more.pop("slots", {})}
            config = parse_config({**place, "collection": next(left), "slots": slots, **more})
            collection = stack.enter_context(Collection.open(config, registry=support.registry()))
            collection.populate({"id": str(n), "text": str(n), "n": n % 5} for n in range(COUNT))
            return collection

        yield make


def scores_of(queries: NDArray[Any], documents: NDArray[Any], similarity: str) -> NDArray[Any]:
    if similarity == "euclidean":
        return np.array(-np.linalg.norm(queries[:, None] - documents[None], axis=2))
    if similarity == "cosine":
        queries, documents = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, documents))
    return np.array(queries @ documents.T)


def two_stages(similarity: str, reads: int, keep: NDArray[Any] | None = None) -> list[list[tuple[int, float]]]:
    """By brute force: the best `reads` by the beginnings, then the best of those by the whole."""
    table = support.Rows(count=COUNT, similarity=similarity)  # type: ignore[arg-type]
    short = scores_of(table.queries[:, :SHORT], table.rows[:, :SHORT], similarity)
    whole = scores_of(table.queries, table.rows, similarity)
    if keep is not None:
        short = np.where(keep, short, -np.inf)
    answers = []
    for query, candidates in enumerate(np.argsort(-short, axis=1)[:, :reads]):
        best = candidates[np.argsort(-whole[query, candidates])][:LIMIT]
        answers.append([(int(n), float(whole[query, n])) for n in best])
    return answers


def require_same(found: list[list[Hit]], wanted: list[list[tuple[int, float]]]) -> None:
    for hits, best in zip(found, wanted, strict=True):
        assert [int(hit.id) for hit in hits] == [n for n, _ in best]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in best], rel=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_answer_is_that_of_two_stages_by_brute_force(similarity: str, opened: Open) -> None:
    collection = opened(similarity=similarity, search={"retrieve": {"dense": 20}})
    require_same(collection.search_batch(QUERIES, limit=LIMIT), two_stages(similarity, 60))


def test_a_filter_holds_in_the_first_stage(opened: Open) -> None:
    collection = opened(search={"retrieve": {"dense": 20}})
    chosen = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=3))])
    found = collection.search_batch(QUERIES, limit=LIMIT, filter=chosen)
    require_same(found, two_stages("cosine", 60, np.arange(COUNT) % 5 == 3))


def test_a_document_is_encoded_once_and_both_vectors_are_its_own(opened: Open) -> None:
    collection, table = opened(), support.Rows(count=COUNT)
    assert collection.handle.slots["dense"].generation is not None
    records, _ = collection.client.scroll(collection.name, limit=40, with_vectors=True)
    for record in records:
        vectors, row = record.vector, table.rows[int(record.payload["text"])]  # type: ignore[index]
        assert isinstance(vectors, dict)
        assert vectors.keys() == {"dense.1", "dense.1.first"}
        assert vectors["dense.1"] == pytest.approx(row, abs=1e-6)
        assert vectors["dense.1.first"] == pytest.approx(row[:SHORT] / np.linalg.norm(row[:SHORT]), abs=1e-6)


def test_the_whole_vector_has_no_graph_unless_it_is_asked_for(tmp_path: Path) -> None:
    for number, hnsw in enumerate((None, {"m": 12})):
        storage = {"first_stage": {"dimension": 8, "hnsw": {"m": 24}, "on_disk": False}, "on_disk": True, "hnsw": hnsw}
        slots = {"dense": {"adapter": "rows", "count": 30, "storage": storage}}
        config = parse_config({"store": f"edge:{tmp_path / str(number)}", "collection": "c", "slots": slots})
        with Collection.open(config, registry=support.registry()) as collection:
            collection.populate([{"id": "1", "text": "1"}])
            made: Any = collection.client.get_collection("c").config.params.vectors
        assert made["dense.1"].hnsw_config.m == (12 if hnsw else 0)
        assert made["dense.1"].on_disk is True
        assert (made["dense.1.first"].hnsw_config.m, made["dense.1.first"].size) == (24, 8)
        assert made["dense.1.first"].on_disk is False


def test_pages_follow_each_other(opened: Open) -> None:
    collection = opened(search={"retrieve": {"dense": 20}})
    whole = [hit.id for hit in collection.search("q1", limit=15)]
    parts = [hit.id for offset in (0, 5, 10) for hit in collection.search("q1", limit=5, offset=offset)]
    assert parts == whole


def test_it_fuses_with_other_slots_by_the_whole_vectors_ranks_and_explain_adds_up(opened: Open) -> None:
    collection = opened(
        slots={"lexical": {"adapter": "fake-sparse"}}, search={"retrieve": {"dense": 20, "lexical": 20}}
    )
    by_dense = [int(hit.id) for hit in collection.search("q3", pipeline=Retrieve("dense", 20), limit=20)]
    for found in collection.explain("q3", limit=5):
        rank = found.slots["dense"].rank
        assert rank is not None
        assert by_dense[rank - 1] == int(found.document.id)
        assert found.score == pytest.approx(sum(slot.contribution or 0 for slot in found.slots.values()), abs=1e-5)
    fused = Retrieve("dense", 20) + Retrieve("lexical", 20) >> Rrf()
    assert [int(hit.id) for hit in collection.search("q3", pipeline=fused, limit=5)] == by_dense[:5]


def test_groups_are_made_of_what_the_whole_vectors_score(opened: Open) -> None:
    collection = opened(search={"retrieve": {"dense": 20}})
    groups = collection.search_groups("q2", group_by="n", group_size=2, limit=3)
    best = collection.search("q2", limit=20)
    assert groups[0].hits[0].id == best[0].id
    assert len(groups) == 3
    for group in groups:
        own = [hit.score for hit in best if hit.document.metadata["n"] == group.value][:2]
        assert [hit.score for hit in group.hits] == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize(
    ("adapter", "first", "message"),
    [
        ("rows", {"dimension": 64}, r"(?s)not shorter.*got: 64.*less than the encoder's 64"),
        ("rows", {"dimension": 8, "datatype": "uint8"}, r"(?s)uint8 cannot hold.*storage\.first_stage\.datatype"),
        ("rows", {"dimension": 8, "quantization": {"kind": "turbo", "quantile": 0.9}}, "no option 'quantile'"),
        ("rows", {"oversampling": 2}, "'dimension' is missing"),
        ("fake-sparse", {"dimension": 8}, "kind sparse has no first_stage"),
        ("fake-multivector", {"dimension": 8}, "kind multivector has no first_stage"),
    ],
)
def test_a_first_stage_that_cannot_be_is_refused(adapter: str, first: dict[str, Any], message: str) -> None:
    slots = {"s": {"adapter": adapter, "storage": {"first_stage": first}}}
    with pytest.raises(ConfigError, match=message):
        populated({"collection": "c", "store": "memory:", "slots": slots})


def populated(raw: dict[str, Any]) -> None:
    config = parse_config(raw)
    check_adapters(config, support.registry())
    with Collection.open(config, registry=support.registry()) as collection:
        collection.populate([{"id": "1", "text": "1"}])


def test_a_collection_that_others_made_is_adopted_without_and_gets_it_by_apply(tmp_path: Path) -> None:
    table = support.Rows(count=50)
    slots = {"dense": {"adapter": "rows", "count": 50, "storage": {"first_stage": FIRST}}}
    raw = {"store": f"edge:{tmp_path}", "collection": "c", "slots": slots}
    plain = {**raw, "slots": {"dense": {"adapter": "rows", "count": 50}}}
    registry = support.registry()
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
        points = [models.PointStruct(id=n, vector=table.rows[n].tolist(), payload={"text": str(n)}) for n in range(50)]
        client.upsert("c", points)
        with pytest.raises(CollectionError, match="the config's storage differs from that of the vectors"):
            Collection.adopt(parse_config(raw), store=client, registry=registry)
        with Collection.adopt(parse_config(plain), store=client, registry=registry) as collection:
            assert collection.apply(parse_config(raw)).outcome == "cut over"
            assert set(collection.client.get_collection("c").config.params.vectors) == {"", "dense.2", "dense.2.first"}  # type: ignore[arg-type]
            assert [hit.id for hit in collection.search("7", limit=1)] == ["7"]


class Doubling:
    """A plugin that has every dense vector compared by dot product."""

    @hookimpl
    def diptych_vector_params(self, spec: Any, params: Any) -> Any:
        return params.model_copy(update={"distance": models.Distance.DOT})


def test_what_a_plugin_says_of_the_vector_holds_for_its_beginning() -> None:
    registry = Registry(support.Plugin(), fakes_plugin, Doubling(), installed=False)
    slots = {"dense": {"adapter": "rows", "count": 50, "storage": {"first_stage": FIRST}}}
    with Collection.open(
        parse_config({"store": "memory:", "collection": "c", "slots": slots}), registry=registry
    ) as collection:
        collection.populate([{"id": "1", "text": "1"}])
        made: Any = collection.client.get_collection("c").config.params.vectors
    assert {own.distance for own in made.values()} == {models.Distance.DOT}
