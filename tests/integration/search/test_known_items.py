"""Questions about what MiniLM does not read of 50 manual pages: passages find what truncation has cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Query, Run
from diptych.config import parse_config
from diptych.evaluate import Qrels, compare, evaluate, read_beir
from diptych.populate import open_source
from diptych.types import Hit

pytestmark = pytest.mark.long

PAGES = Path(__file__).parents[2] / "data/manual_pages"
MINILM: dict[str, Any] = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}


@pytest.fixture(scope="module")
def judged() -> tuple[list[Query], Qrels]:
    return read_beir(PAGES)


@pytest.fixture(scope="module")
def hits(judged: tuple[list[Query], Qrels], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Hit]]]:
    """Ten hits of each query, from a collection without passages and from one with them."""
    found: dict[str, list[list[Hit]]] = {}
    for way, slot in {"truncation": MINILM, "passages": {**MINILM, "passages": {"tokens": 200, "overlap": 40}}}.items():
        raw = {"store": f"edge:{tmp_path_factory.mktemp(way)}", "collection": "c", "slots": {"dense": slot}}
        with Collection.open(parse_config({**raw, "cache": {"enabled": False}})) as collection:
            collection.populate(open_source(PAGES / "corpus.jsonl.gz"))
            found[way] = collection.search_batch(judged[0], limit=10)
    return found


def test_passages_answer_what_truncation_cuts_off(
    judged: tuple[list[Query], Qrels], hits: dict[str, list[list[Hit]]]
) -> None:
    queries, qrels = judged
    scored = [evaluate(Run.from_hits(way, queries, found), qrels, ["nDCG@10"]) for way, found in hits.items()]
    (difference,) = compare(scored, "truncation", "nDCG@10").differences
    assert difference.low > 0.05


def test_shown_passages_are_parts_of_the_text_and_mostly_hold_the_answer(
    judged: tuple[list[Query], Qrels], hits: dict[str, list[list[Hit]]]
) -> None:
    queries, qrels = judged
    held = []
    for query, found in zip(queries, hits["passages"], strict=True):
        for hit in (hit for hit in found if hit.id in qrels.judgements[query.id]):
            assert all(hit.document.text[one.start : one.end] == one.text for one in hit.passages)
            start, end = query.metadata["sentence"]
            held.append(any(one.start <= start and end <= one.end for one in hit.passages))
    assert len(held) > 70
    assert sum(held) > 0.75 * len(held)
