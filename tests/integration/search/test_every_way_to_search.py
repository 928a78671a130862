"""Pages, batches, groups, coroutines and threads give the hits that one search gives, whatever is asked for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from diptych import Collection, Query
from diptych.search import (
    Dbsf,
    Diversify,
    FieldBoost,
    Linear,
    NumberBoost,
    Pipeline,
    Rerank,
    Rescore,
    Retrieve,
    Rrf,
)
from diptych.testing import FakeReranker
from diptych.types import Hit
from long_documents import SLOTS, manuals

from .conftest import Open

PAIR = Retrieve("dense", 60) + Retrieve("lexical", 60)
PIPELINES: list[Pipeline | Retrieve | str | None] = [
    None,
    "dense",
    Retrieve("lexical"),
    PAIR >> Rrf(weights={"dense": 2.0}) >> Rescore("late", 40),
    PAIR >> Dbsf() >> Rescore("late", 40, weight=0.4),
    PAIR >> Linear() >> Rescore("late", 40) >> Diversify("dense", 0.5, 30),
    PAIR >> Linear("zscore") >> Rerank("fake-reranker", 30),
    PAIR >> Rrf() >> Rescore("late", 40) >> Rerank("fake-reranker", 35) >> Rerank(FakeReranker(), 30),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"where": {"parity": "odd"}, "with_payload": ["n", "parity"]},
    {"pin": ["d20", "d3"], "exclude": ["d7"]},
    {"like": ["d30"], "unlike": ["d8", Query("word5")]},
    {"boost": [FieldBoost("parity", "odd", weight=0.3), NumberBoost("n", 50, 20, weight=-0.2)]},
    {"highlight": True},
]
ASKED = [
    *({"pipeline": pipeline} for pipeline in PIPELINES),
    *({"pipeline": pipeline, **options} for pipeline in (None, "dense") for options in OPTIONS[1:]),
    *({"pipeline": pipeline, "like": ["d30"], "unlike": ["d8"]} for pipeline in PIPELINES[3:]),
]


def shown(hits: list[Hit]) -> list[Any]:
    words = [hit.highlight and hit.highlight.words for hit in hits]
    return [
        (hit.id, hit.document, pytest.approx(hit.score, abs=1e-5), own) for hit, own in zip(hits, words, strict=True)
    ]


@pytest.mark.parametrize("options", ASKED, ids=repr)
def test_pages_batches_and_groups_give_the_hits_of_one_search(
    filled: Collection, queries: list[str], options: dict[str, Any]
) -> None:
    whole = [filled.search(query, limit=20, **options) for query in queries]
    assert [*map(shown, filled.search_batch(queries, limit=20, **options))] == [*map(shown, whole)]
    stages = options["pipeline"]
    if not (isinstance(stages, Pipeline) and stages.diversify):  # whose first pages are chosen again for the next
        pages = [filled.search(queries[0], limit=7, offset=start, **options) for start in (0, 7, 14)]
        assert shown([hit for page in pages for hit in page][:20]) == shown(whole[0])
    groups = filled.search_groups(queries[0], group_by="parity", group_size=2, **options)
    assert [hit.id for hit in groups[0].hits[:1]] == [whole[0][0].id]


def test_coroutines_and_threads_get_what_each_search_gets_alone(filled: Collection, queries: list[str]) -> None:
    pages = [{}, {"limit": 3, "offset": 2}]
    asked = [
        {"query": queries[(row + column) % len(queries)], "limit": 5, **options, **page}
        for row, options in enumerate(ASKED)
        for column, page in enumerate(pages)
    ]
    alone = [shown(filled.search(**options)) for options in asked]

    async def together() -> list[list[Hit]]:
        return await asyncio.gather(*(filled.asearch(**options) for options in asked))

    with ThreadPoolExecutor(8) as pool:
        from_threads = list(pool.map(lambda options: filled.search(**options), asked))
    for found in (asyncio.run(together()), from_threads):
        assert [*map(shown, found)] == alone


def test_passages_are_the_same_by_every_way(opened: Open) -> None:
    collection = opened({"slots": SLOTS})
    collection.populate(manuals())
    queries = ["convert audio files", "mail", "pictures"]
    one_by_one = [collection.search(query, highlight=True) for query in queries]
    assert any(hit.passages for hit in one_by_one[0])
    assert collection.search_batch(queries, highlight=True) == one_by_one
    assert [asyncio.run(collection.asearch(query, highlight=True)) for query in queries] == one_by_one
