from __future__ import annotations

import pytest

from diptych.populate.read_ahead import shift

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
