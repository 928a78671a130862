"""Figures: what is met, and what a file of them gives back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from figures import Figure, Result
from rounds import in_rounds, interleaved


@pytest.mark.parametrize(
    ("wanted", "met"), [(">= 2", True), (">= 2.1", False), ("<= 2", True), ("<= 1.9", False), ("", None)]
)
def test_a_figure_is_met_when_its_median_is_as_wanted(wanted: str, met: bool | None) -> None:
    assert Figure("speed", "ours", "x", [9.0, 2.0, 1.0], "theirs", wanted).met is met


def test_a_result_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    result = Result("Speed", [Figure("speed", "ours", "x", [2.0, 3.0], "theirs", ">= 2", 1000)], ["small"], threads=3)
    file = tmp_path / "below" / "speed.json"
    result.write(file)
    data = json.loads(file.read_text())
    assert Result.of(data) == result
    assert (data["figures"][0]["median"], data["figures"][0]["met"], data["threads"]) == (2.5, True, 3)


def test_every_way_is_asked_once_a_round_in_an_order_that_moves_on_and_round_0_does_not_count() -> None:
    asked: list[tuple[int, str]] = []

    def job(name: str, number: int) -> float:
        asked.append((number, name))
        return float(number)

    found = interleaved({name: lambda number, name=name: job(name, number) for name in "ab"}, rounds=2)  # type: ignore[misc]
    assert asked == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert found == {"a": [1.0, 2.0], "b": [1.0, 2.0]}


def test_calls_that_were_made_in_turn_give_a_ratio_of_medians_for_each_stretch() -> None:
    assert in_rounds([1, 1, 1, 2, 2, 2], [2, 2, 9, 6, 6, 1], rounds=2) == [2.0, 3.0]
