"""From a vector a document to a vector a passage and back, while others search and write."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qdrant_client.client_base import QdrantBase

from diptych.handle import collection_handle
from diptych.passages import PassageEncoder, PassageOptions
from diptych.swap import plan
from diptych.swap.plan import details
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document, Hit
from swaps import Make, Open

PASSAGES = {"tokens": 24, "overlap": 4}
PLAIN: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}
WITH: dict[str, Any] = {"dense": {**PLAIN["dense"], "passages": PASSAGES}}
ENCODER = FakeDenseEncoder(dimension=16)
PASSAGE_ENCODER = PassageEncoder(ENCODER, "dense", PassageOptions(**PASSAGES))
QUERIES = [f"word{number % 17} number{number}" for number in range(24)]


def text(chance: random.Random) -> str:
    words = [f"word{chance.randrange(17)}" for _ in range(chance.randint(3, 90))]
    return " ".join(f"{word}." if n % 7 == 6 else word for n, word in enumerate(words))


def corpus(size: int, seed: int = 0) -> list[Document]:
    chance = random.Random(seed)
    return [Document(str(n), f"number{n} {text(chance)}") for n in range(size)]


@pytest.fixture(autouse=True)
def _follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_handle, "REFRESH", 0.02)


def whose(query: str, hits: list[Hit]) -> str:
    """Which of the two made all scores: one vector of the whole text, or the best of its passages' vectors."""
    (vector,), scores = ENCODER.encode_query([query]), [hit.score for hit in hits]
    texts = [hit.document.text for hit in hits]
    whole = ENCODER.encode_document(texts) @ vector
    best = [float((own @ vector).max()) for own in PASSAGE_ENCODER.encode_document(texts)]
    made = [name for name, own in (("plain", whole), ("passages", best)) if np.allclose(own, scores, atol=1e-4)]
    return made[0] if len(made) == 1 and hits else "nobody"


def test_plan_tells_the_swap_and_apply_and_rollback_carry_it(client: QdrantBase, config: Make, opened: Open) -> None:
    collection = opened(client, config(PLAIN))
    collection.populate(corpus(40))
    planned = plan(collection.handle, config(WITH))
    (step,) = planned.steps
    assert (step.action, step.encode) == ("re-encode", 40)
    assert "passages: unset -> {tokens: 24, overlap: 4}" in step.why
    counts = [len(own) for own in PASSAGE_ENCODER.encode_document([d.text for d in corpus(40)])]
    assert step.passages == np.mean(counts)
    assert f"dense: about {np.mean(counts):.1f} passages a document, {sum(counts)} in all" in details(planned)
    collection.apply(config(WITH))
    assert whose(QUERIES[1], collection.search(QUERIES[1])) == "passages"
    assert all(hit.passages for hit in collection.search(QUERIES[1]))
    collection.rollback()
    assert whose(QUERIES[1], collection.search(QUERIES[1])) == "plain"
    assert not any(hit.passages for hit in collection.search(QUERIES[1]))


def test_edits_deletions_and_swaps_leave_every_passage_new(
    client: QdrantBase, config: Make, opened: Open, faults: Callable[..., list[str]]
) -> None:
    chance, collection = random.Random(5), opened(client, config(PLAIN))
    held = {document.id: document for document in corpus(60)}
    collection.populate(held.values())
    for round_number in range(6):
        edited = [Document(own, text(chance)) for own in chance.sample(sorted(held), 15)]
        held.update({document.id: document for document in edited})
        collection.populate(edited)
        gone = chance.sample(sorted(held), 3)
        collection.delete(gone)
        held = {own: document for own, document in held.items() if own not in gone}
        if round_number % 2:
            collection.apply(config(WITH if round_number % 4 == 1 else PLAIN))
            collection.finish()
            collection = opened(client)
    live = collection.handle.slots["dense"]
    assert live.passages
    assert client.count("c").count == len(held)
    assert faults(client, live.vector, PASSAGE_ENCODER) == []
