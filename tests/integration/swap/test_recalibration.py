"""An encoder that lives on corpus statistics is calibrated anew once the corpus has moved away from them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.protocols import Statistics
from diptych.swap.documents import CorpusSample
from diptych.testing.fakes import FakeCalibratedEncoder
from diptych.types import Document
from swaps import DENSE, Faults, Make, Open

SLOTS: dict[str, Any] = {"dense": DENSE, "lexical": {"adapter": "fake-calibrated", "dimension": 512}}


def corpus(size: int, *, words: int, first: int = 0) -> list[Document]:
    chance = random.Random(first)
    vocabulary = [f"word{n}" for n in range(50)]
    return [
        Document(str(n), f"{' '.join(chance.sample(vocabulary, words - 1))} number{n}")
        for n in range(first, first + size)
    ]


def statistics(found: Collection) -> Statistics | None:
    return found.handle.read().live.slots["lexical"].statistics


@pytest.fixture
def drifted(client: QdrantBase, config: Make, opened: Open) -> Collection:
    """Forty documents of five words, and then twenty of nine."""
    found = opened(client, config(SLOTS))
    found.populate(corpus(40, words=5))
    found.populate(corpus(20, words=9, first=40))
    return found


def test_a_drift_is_a_change_that_plan_lists_with_its_costs_and_apply_makes(
    drifted: Collection, client: QdrantBase, config: Make, faults: Faults
) -> None:
    plan = drifted.plan(config(SLOTS))
    dense, lexical = plan.steps
    assert (dense.action, lexical.action, lexical.encode, plan.pending) == ("keep", "recalibrate", 60, True)
    assert lexical.why == "the average of tokens a document moved by +27% since the encoder was calibrated"
    assert lexical.rate is not None
    assert lexical.disk > 0
    report = drifted.apply(config(SLOTS))
    assert (report.outcome, report.encoded) == ("cut over", {"lexical.2": 60})
    assert statistics(drifted) == {"documents": 60.0, "tokens": 40 * 5.0 + 20 * 9.0}
    encoder = FakeCalibratedEncoder(dimension=512)
    encoder.calibrate(statistics(drifted) or {})
    assert faults(client, "lexical.2", encoder) == []
    assert not drifted.plan(config(SLOTS)).pending
    assert drifted.apply(config(SLOTS)).outcome == "nothing to do"
    drifted.rollback()
    assert statistics(drifted) == {"documents": 40.0, "tokens": 200.0}


def test_less_than_a_tenth_is_no_change(client: QdrantBase, config: Make, opened: Open) -> None:
    found = opened(client, config(SLOTS))
    found.populate(corpus(40, words=5))
    found.populate(corpus(4, words=9, first=40))
    assert not found.plan(config(SLOTS)).pending


def test_what_a_small_sample_says_by_chance_is_no_change(memory: QdrantBase, config: Make, opened: Open) -> None:
    """Texts of one word and of forty: of 20 drawn the average is anything, and of all of them it is what it was."""
    found = opened(memory, config(SLOTS))
    found.populate([*corpus(180, words=2), *corpus(20, words=41, first=180)])
    then, layout = statistics(found) or {}, found.handle.view.layout
    encoder, reading = FakeCalibratedEncoder(dimension=512), found.handle.view.reading
    assert CorpusSample(found.handle, layout, size=20).shift(encoder, then, reading) == ""
    assert CorpusSample(found.handle, layout).shift(encoder, then, reading) == ""
    far = {**then, "tokens": then["tokens"] * 10}
    assert "moved by -" in CorpusSample(found.handle, layout, size=20).shift(encoder, far, reading)
