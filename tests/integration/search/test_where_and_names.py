"""Filters in short, filters as mappings, and pipelines by name: each gives what its long form gives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.search import Pipeline, Retrieve, Rrf
from diptych.search.filters import combined, logged_keys
from diptych.types import Hit

from .conftest import SLOTS, Open, fill

QUERY = "word1 word2 word3"


def condition(key: str, **how: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **how)


ODD = condition("parity", match=models.MatchValue(value="odd"))
WHERE: list[tuple[Mapping[str, Any], list[Any]]] = [
    ({"parity": "odd"}, [ODD]),
    ({"n": 7}, [condition("n", match=models.MatchValue(value=7))]),
    ({"n": 7.0}, [condition("n", match=models.MatchValue(value=7))]),
    ({"n": [1, 2, 300]}, [condition("n", match=models.MatchAny(any=[1, 2, 300]))]),
    ({"tags": ("t1", "u0")}, [condition("tags", match=models.MatchAny(any=["t1", "u0"]))]),
    ({"at.x": 2}, [condition("at.x", match=models.MatchValue(value=2))]),
    ({"n": {"gte": 10, "lt": 20.5}}, [condition("n", range=models.Range(gte=10, lt=20.5))]),
    ({"parity": "odd", "n": {"gt": 50}}, [ODD, condition("n", range=models.Range(gt=50))]),
    ({"n": True}, [condition("n", match=models.MatchValue(value=True))]),
    ({}, []),
]


def shown(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


@pytest.mark.parametrize(("where", "conditions"), WHERE, ids=repr)
def test_where_finds_what_its_filter_finds(filled: Collection, where: Mapping[str, Any], conditions: list[Any]) -> None:
    long = models.Filter(must=conditions)
    expected = filled.search(QUERY, filter=long, limit=100)
    assert shown(filled.search(QUERY, where=where, limit=100)) == shown(expected)
    assert shown(filled.search(QUERY, filter=long.model_dump(exclude_none=True), limit=100)) == shown(expected)
    assert filled.count(where=where) == filled.count(long)
    assert {one.id for one in filled.documents(where=where)} == {one.id for one in filled.documents(long)}


def test_filter_and_where_must_both_hold_in_every_question(filled: Collection) -> None:
    both = models.Filter(must=[ODD, condition("n", range=models.Range(lt=40))])
    narrowed: dict[str, Any] = {"filter": {"must": [{"key": "parity", "match": {"value": "odd"}}]}}
    narrowed["where"] = {"n": {"lt": 40}}
    assert shown(filled.search(QUERY, **narrowed)) == shown(filled.search(QUERY, filter=both))
    assert [*map(shown, filled.search_batch([QUERY], **narrowed))] == [shown(filled.search(QUERY, filter=both))]
    assert shown(asyncio.run(filled.asearch(QUERY, **narrowed))) == shown(filled.search(QUERY, filter=both))
    groups = filled.search_groups(QUERY, group_by="parity", **narrowed)
    assert [group.value for group in groups] == ["odd"]
    assert [e.document.id for e in filled.explain(QUERY, limit=3, **narrowed)] == [
        hit.id for hit in filled.search(QUERY, filter=both, limit=3)
    ]
    assert filled.count(**narrowed) == filled.count(both) == 20


def test_times_are_bounded_too(filled: Collection) -> None:
    made = combined(None, {"at": {"gte": "2026-11-27T00:00:00Z"}})
    assert made is not None
    assert isinstance(made.must, list)
    assert isinstance(made.must[0], models.FieldCondition)
    assert isinstance(made.must[0].range, models.DatetimeRange)


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("dense", Retrieve("dense")),
        ("late", Retrieve("late")),
        ("rrf", Retrieve("dense", 100) + Retrieve("lexical", 100) + Retrieve("late", 100) >> Rrf()),
    ],
)
def test_a_pipeline_by_name_is_the_one_that_evaluate_shows(
    filled: Collection, name: str, pipeline: Pipeline | Retrieve
) -> None:
    assert shown(filled.search(QUERY, pipeline=name)) == shown(filled.search(QUERY, pipeline=pipeline))


def test_a_named_part_of_a_pipeline_leaves_out_its_later_stages(opened: Open, tmp_path: Path) -> None:
    search = {
        "retrieve": {"dense": 100, "lexical": 100},
        "fuse": {"kind": "rrf"},
        "rerank": [{"adapter": "fake-reranker", "candidates": 50}],
    }
    collection = opened({"slots": {name: SLOTS[name] for name in ("dense", "lexical")}, "search": search})
    fill(collection, tmp_path / "aside.jsonl")
    fused = shown(collection.search(QUERY, pipeline="rrf"))
    assert fused == shown(collection.search(QUERY, pipeline=Retrieve("dense", 100) + Retrieve("lexical", 100) >> Rrf()))
    assert fused != shown(collection.search(QUERY))


def test_a_search_that_finds_nothing_logs_the_filter_keys_that_no_document_has(
    filled: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    kept = logged_keys(filled.handle.now())
    kept.clear()
    assert filled.search(QUERY, where={"parity": "odd", "paritty": "odd"}) == []
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "WARNING",
        f"collection {filled.name!r}: no document has 'paritty', which the filter asks for: did you mean 'parity'?",
    )
    for _ in range(5):  # it is said once
        assert filled.search(QUERY, where={"paritty": "odd"}) == []
    del kept[None]
    assert filled.search(QUERY, where={"paritty": "odd"}) == []
    assert len(caplog.records) == 1
    kept.clear()
    assert asyncio.run(filled.asearch(QUERY, where={"tagz": "t1"})) == []
    assert "'tagz'" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("pipeline", ["dense", "rrf"])
def test_a_key_to_group_by_that_no_document_has_is_logged_with_what_may_be_meant(
    filled: Collection, caplog: pytest.LogCaptureFixture, pipeline: str
) -> None:
    kept = logged_keys(filled.handle.now())
    kept.clear()
    assert filled.search_groups(QUERY, group_by="paritty", pipeline=pipeline) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"collection {filled.name!r}: no document has 'paritty', by which hits are grouped: did you mean 'parity'?"
    ]
    caplog.clear()
    kept.clear()
    assert filled.search_groups(QUERY, group_by="author", where={"tagz": "t1"}, pipeline=pipeline) == []
    by_filter, by_group = [record.getMessage() for record in caplog.records]
    assert (
        by_filter
        == f"collection {filled.name!r}: no document has 'tagz', which the filter asks for: did you mean 'tags'?"
    )
    known = by_group.removeprefix(
        f"collection {filled.name!r}: no document has 'author', by which hits are grouped: there are "
    )
    assert {"parity", "n", "tags"} <= set(known.split(", "))
    caplog.clear()
    kept.clear()
    assert filled.search_groups(QUERY, group_by="parity", where={"n": -1}, pipeline=pipeline) == []
    assert not caplog.records


def test_a_search_that_finds_nothing_by_keys_that_are_there_logs_nothing(
    filled: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    logged_keys(filled.handle.now()).clear()
    assert filled.search(QUERY, where={"parity": "neither"}) == []
    assert filled.search(QUERY, where={"n": 7}, score_threshold=1e9) == []
    assert caplog.records == []
