"""Groups hold the best hits of each value, whether Qdrant makes them or the host."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.errors import SearchError
from diptych.search import HitGroup, Linear, Pipeline, Rerank, Retrieve, Rrf, search, search_groups
from diptych.types import Hit

PAIR = Retrieve("dense", 100) + Retrieve("lexical", 100)
PIPELINES = [
    Pipeline((Retrieve("dense", 100),)),
    PAIR >> Rrf(),
    PAIR >> Linear(),
    PAIR >> Rrf() >> Rerank("fake-reranker", 100),
]


def by_hand(hits: list[Hit], key: str, size: int) -> list[tuple[Any, list[str]]]:
    groups: dict[Any, list[str]] = {}
    for hit in hits:
        found = hit.document.metadata[key]
        for value in found if isinstance(found, list) else [found]:
            groups.setdefault(value, []).append(hit.id)
    return [(value, ids[:size]) for value, ids in groups.items()]


def shown(groups: list[HitGroup]) -> list[tuple[Any, list[str]]]:
    return [(group.value, [hit.id for hit in group.hits]) for group in groups]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
@pytest.mark.parametrize("key", ["parity", "tags"])
def test_groups_are_the_hits_put_together_by_value(
    filled: Collection, queries: list[str], pipeline: Pipeline, key: str
) -> None:
    deep = search(filled.handle, queries, pipeline=pipeline, limit=100)
    groups = search_groups(filled.handle, queries, group_by=key, group_size=4, limit=10, pipeline=pipeline)
    for found, hits in zip(groups, deep, strict=True):
        wanted = by_hand(hits, key, 4)
        assert dict(shown(found)) == dict(wanted)
        # groups that share their best hit have equal scores: a server returns them in any order
        assert [ids[0] for _, ids in shown(found)] == [ids[0] for _, ids in wanted]
        by_id = {hit.id: hit.document for hit in hits}
        assert all(hit.document == by_id[hit.id] for group in found for hit in group.hits)
    assert all(group.score == group.hits[0].score for found in groups for group in found)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_limit_counts_groups_and_nested_keys_are_reached_by_dots(
    filled: Collection, queries: list[str], pipeline: Pipeline
) -> None:
    (groups,) = search_groups(filled.handle, queries[:1], group_by="at.x", group_size=2, limit=3, pipeline=pipeline)
    assert len(groups) == 3
    assert all(len(group.hits) == 2 for group in groups)
    assert all(hit.document.metadata["at"]["x"] == group.value for group in groups for hit in group.hits)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_filter_threshold_and_payload_hold_within_groups(
    filled: Collection, queries: list[str], pipeline: Pipeline
) -> None:
    few = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(lt=30))])
    asked: dict[str, Any] = {"group_by": "parity", "group_size": 10, "pipeline": pipeline, "filter": few}
    (groups,) = search_groups(filled.handle, queries[:1], **asked)
    threshold = groups[0].hits[3].score
    (kept,) = search_groups(filled.handle, queries[:1], score_threshold=threshold, with_payload=["n"], **asked)
    assert all(hit.score >= threshold for group in kept for hit in group.hits)
    assert kept[0].hits[3].score == pytest.approx(threshold)
    assert all(hit.document.text == "" for group in kept for hit in group.hits)
    assert {key for group in kept for hit in group.hits for key in hit.document.metadata} == {"n"}
    assert max(hit.document.metadata["n"] for group in kept for hit in group.hits) < 30


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"group_by": ""}, "group_by is not a payload key"),
        ({"group_by": "parity", "group_size": 0}, "group_size is not a positive integer"),
    ],
)
def test_groups_that_mean_nothing_are_refused(filled: Collection, options: dict[str, Any], text: str) -> None:
    with pytest.raises(SearchError, match=text):
        search_groups(filled.handle, ["word1"], **options)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_each_document_can_be_its_own_group(filled: Collection, queries: list[str], pipeline: Pipeline) -> None:
    groups = filled.search_groups(queries[0], group_by="_diptych.id", limit=5, pipeline=pipeline)
    hits = filled.search(queries[0], limit=5, pipeline=pipeline)
    assert shown(groups) == [(hit.id, [hit.id]) for hit in hits]
