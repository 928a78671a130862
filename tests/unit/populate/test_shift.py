from __future__ import annotations

import pytest

from diptych import Registry
from diptych.config.models import SlotConfig
from diptych.metadata.models import Generation
from diptych.populate.read_ahead import shift, shift_warnings
from diptych.slots.slot import Slot
from diptych.testing import fakes_plugin

THEN = {"documents": 100.0, "tokens": 1000.0}


@pytest.mark.parametrize(
    ("then", "now", "points", "expected"),
    [
        (THEN, THEN, 100, {"tokens": 0.0}),
        (THEN, {"documents": 50.0, "tokens": 600.0}, 50, {"tokens": 0.2}),  # a whole corpus of longer documents
        # Documents that were not read count with their old average.
        (THEN, {"documents": 10.0, "tokens": 200.0}, 110, {"tokens": (1000 + 200) / 110 / 10 - 1}),
        (THEN, {}, 100, {}),
        (THEN, {"documents": 0.0, "tokens": 0.0}, 100, {}),
        ({"documents": 0.0, "tokens": 0.0}, THEN, 100, {}),
        ({"documents": 3.0, "tokens": 0.0}, THEN, 3, {}),  # without words there is no relative shift
    ],
)
def test_the_shift_is_the_ratio_of_the_averages(
    then: dict[str, float], now: dict[str, float], points: int, expected: dict[str, float]
) -> None:
    assert shift(then, now, points) == pytest.approx(expected)


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
