"""Queries go on through a swap: none fails, and each answer is wholly one encoder's, told by recomputing its scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.handle import collection_handle
from diptych.handle.view import View
from diptych.search import search
from diptych.search.run import on_current_view
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Hit
from named_server import require_vector_names
from swaps import NEW, OLD, Make, Open, corpus

ENCODERS = {"old": FakeDenseEncoder(dimension=16), "new": FakeDenseEncoder(dimension=16, seed=1)}
QUERIES = [f"word{number % 17} number{number}" for number in range(24)]


@pytest.fixture(autouse=True)
def _follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_handle, "REFRESH", 0.02)


def whose(query: str, hits: list[Hit]) -> str:
    """The encoder whose scores, recomputed from the texts, are those of all hits."""
    found = []
    for name, encoder in ENCODERS.items():
        wanted = encoder.encode_document([hit.document.text for hit in hits]) @ encoder.encode_query([query])[0]
        if np.allclose(wanted, [hit.score for hit in hits], atol=1e-4):
            found.append(name)
    return found[0] if len(found) == 1 and hits else "nobody"


def test_a_query_recovers_when_the_look_of_another_query_exchanged_the_view_meanwhile(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)
    opened(client, config(OLD)).populate(corpus(40))
    serving, applying = opened(client), opened(client)
    assert whose(QUERIES[0], serving.search(QUERIES[0])) == "old"
    applying.apply(config(NEW))
    applying.finish()

    def answer(view: View) -> list[Hit]:
        serving.handle.catch_up()
        return search(view, [QUERIES[1]])[0]

    assert whose(QUERIES[1], on_current_view(serving.handle, answer)) == "new"


def test_a_handle_recovers_in_a_batch_in_groups_in_explain_and_with_a_pipeline_of_its_own(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    from diptych.search import Retrieve

    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)
    opened(client, config(OLD)).populate([{"id": d.id, "text": d.text, "part": "a"} for d in corpus(40)])
    query, ways = QUERIES[0], dict[str, Callable[[Collection], Any]]()
    ways["batch"] = lambda found: found.search_batch([query])[0]
    ways["pipeline"] = lambda found: found.search(query, pipeline=Retrieve("dense", 5))
    ways["groups"] = lambda found: found.search_groups(query, group_by="part")[0].hits
    ways["explain"] = lambda found: [Hit(one.document, one.score or 0.0) for one in found.explain(query)]
    serving = {name: opened(client) for name in ways}
    for found in serving.values():
        found.search(query)
    applying = opened(client)
    applying.apply(config(NEW))
    applying.finish()
    assert {name: whose(query, list(way(serving[name]))) for name, way in ways.items()} == dict.fromkeys(ways, "new")
