from __future__ import annotations

import pytest

from diptych import Registry
from diptych.config.models import SlotConfig
from diptych.metadata.models import Generation
from diptych.populate.read_ahead import batched, shift, shift_warnings
from diptych.slots.slot import Slot
from diptych.testing import fakes_plugin

THEN = {"documents": 100.0, "tokens": 1000.0}


def test_the_same_corpus_has_no_shift() -> None:
    assert shift(THEN, THEN, 100) == {"tokens": 0.0}


def test_a_whole_corpus_of_longer_documents_shifts_by_their_ratio() -> None:
    assert shift(THEN, {"documents": 50.0, "tokens": 600.0}, 50)["tokens"] == pytest.approx(0.2)


def test_documents_that_were_not_read_count_with_their_old_average() -> None:
    found = shift(THEN, {"documents": 10.0, "tokens": 200.0}, 110)
    assert found["tokens"] == pytest.approx((1000 + 200) / 110 / 10 - 1)


@pytest.mark.parametrize("nothing", [{}, {"documents": 0.0, "tokens": 0.0}])
def test_without_documents_there_is_no_shift(nothing: dict[str, float]) -> None:
    assert shift(THEN, nothing, 100) == {}
    assert shift(nothing, THEN, 100) == {}


def test_a_corpus_without_words_has_no_relative_shift() -> None:
    assert shift({"documents": 3.0, "tokens": 0.0}, THEN, 3) == {}


@pytest.mark.parametrize(("size", "expected"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2]]), (9, [[0, 1, 2]])])
def test_batches_keep_the_order_and_the_rest(size: int, expected: list[list[int]]) -> None:
    assert list(batched(range(3), size)) == expected


def test_a_warning_says_how_to_calibrate_anew() -> None:
    generation = Generation(
        number=1, vector="w.1", kind="sparse", adapter="bm25", options={}, space="s", numerics="n", statistics=THEN
    )
    registry = Registry(fakes_plugin, installed=False)
    slot = Slot("words", SlotConfig(adapter="bm25"), generation, registry, verify=False)
    longer = {"words": {"documents": 400.0, "tokens": 6000.0}}
    (warning,) = shift_warnings({"words": slot}, longer, 400)
    assert "'tokens' per document is 50% higher than" in warning
    assert warning.endswith("`diptych plan` shows what it costs to recalibrate, `diptych apply` does it.")
    assert shift_warnings({"words": slot}, {"words": {"documents": 400.0, "tokens": 4200.0}}, 400) == []
    assert shift_warnings({"words": slot}, longer, 299) == [], "the average of a few documents moves with each of them"
