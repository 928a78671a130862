"""A live collection moves from MiniLM to another model of its dimension, and to a shorter one, while it is queried."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection
from diptych.config import Config, parse_config
from diptych.evaluate import read_queries
from diptych.handle import collection_handle
from diptych.types import Floats, Hit
from loads import Load

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("vectors_of_the_run")]

MINILM: Mapping[str, Any] = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"}
SHORT: Mapping[str, Any] = {**MINILM, "truncate_dim": 256}
EXACT = models.SearchParams(exact=True)
DOCUMENTS, QUERIES = 64, 8


class Scores:
    """All scores of a handful of queries over the corpus, by encoder, computed without Qdrant."""

    def __init__(self, texts: Mapping[str, str], queries: list[str]) -> None:
        self._texts, self._queries = texts, queries
        self._known: dict[str, tuple[dict[str, int], Floats]] = {}

    def add(self, name: str, encoder: Any) -> None:
        """Encode everything by this encoder."""
        rows = {identifier: row for row, identifier in enumerate(self._texts)}
        documents = encoder.encode_document(list(self._texts.values()))
        self._known[name] = rows, _unit(encoder.encode_query(self._queries)) @ _unit(documents).T

    def whose(self, query: int, hits: list[Hit]) -> str:
        """The encoder that gave all these scores; "nobody" when there is none, or more than one."""
        found = [
            name
            for name, (rows, scores) in self._known.items()
            if np.allclose([hit.score for hit in hits], [scores[query, rows[hit.id]] for hit in hits], atol=2e-3)
        ]
        return found[0] if len(found) == 1 and hits else "nobody"


def config(store: Path, slot: Mapping[str, Any]) -> Config:
    gate = {"sample": 16, "unmeasured": 1}
    raw = {"store": f"edge:{store}", "collection": "c", "slots": {"dense": dict(slot)}, "populate": {"chunk": 64}}
    return parse_config({**raw, "swap": {"gate": gate}, "cache": {"enabled": False}})


def first_ten(collection: Collection, queries: list[str]) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in collection.search_batch(queries, params=EXACT)]


def has_followed(one: Collection, other: Collection) -> bool:
    """Whether one answers by the encoders of the other: it loads them first, and answers by its own meanwhile."""
    mine, others = one.handle.metadata, other.handle.metadata
    return mine is not None and others is not None and mine.live == others.live


def swapped(
    store: Path, documents: list[Mapping[str, Any]], queries: list[str], targets: Mapping[str, Mapping[str, Any]]
) -> None:
    """Swap to each target and back under load, and check every answer given meanwhile."""
    with Collection.open(config(store, MINILM)) as live:
        live.populate(documents)
        texts = {d["_id"]: " ".join(filter(None, (d.get("title", ""), d["text"]))) for d in documents}
        asked = queries[:QUERIES]
        scores = Scores(texts, asked)
        scores.add("MiniLM", live.handle.slot("dense").encoder)
        before = first_ten(live, queries)
        for name, target in targets.items():
            serving = Collection.open(live.client, "c")
            with serving, Load(serving, asked, params=EXACT) as load:
                load.wait_for(5, 120)
                report = live.apply(config(store, target))
                load.until(partial(has_followed, serving, live), 120)
                load.wait_for(5, 120)
                scores.add(name, live.handle.slot("dense").encoder)
                live.rollback()
                load.wait_for(5, 120)
            assert report.encoded == {live.handle.read().previous.slots["dense"].vector: len(documents)}  # type: ignore[union-attr]
            assert load.errors == []
            assert {scores.whose(*answer) for answer in load.answers} == {"MiniLM", name}
            assert first_ten(live, queries) == before
            live.finish()


def documents_of(folder: Path, number: int | None) -> list[Mapping[str, Any]]:
    """The corpus but for what holds no text, which no point is made of."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = (document for line in lines if (document := json.loads(line))["text"].strip())
        return list(islice(found, number))


def _unit(rows: Any) -> Floats:
    made = np.asarray(rows, np.float32)
    unit: Floats = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


@pytest.fixture(autouse=True)
def _follow_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(collection_handle, "REFRESH", 0.05)
    return iter([None])


def test_real_models_are_swapped_under_load_without_a_failed_or_a_mixed_answer(
    tmp_path: Path, debian: Path, paraphrase: Mapping[str, Any]
) -> None:
    queries = [query.text for query in islice(read_queries(debian / "queries.jsonl.gz"), 24)]
    targets = {"paraphrase": paraphrase, "short": SHORT}
    swapped(tmp_path / "store", documents_of(debian, DOCUMENTS), queries, targets)
