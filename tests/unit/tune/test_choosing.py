"""Of measured rows: which are on the Pareto front, and which one a rule chooses."""

from __future__ import annotations

from typing import Any

import pytest

from diptych.config.storage import VectorStorage
from diptych.errors import TuneError
from diptych_lab.tune import IndexRow, Rule, Setup
from diptych_lab.tune.trials import with_front

SETUP = Setup(VectorStorage())


def row(recall: float, p50: float, memory: float, disk: float = 1.0) -> IndexRow:
    return IndexRow(SETUP, recall, p50, 2 * p50, memory, disk, 1.0)


def test_the_front_is_that_of_checking_every_pair() -> None:
    import numpy as np

    random = np.random.default_rng(1)
    rows = [row(*values) for values in random.integers(1, 6, size=(60, 3)).astype(float)]
    for number, found in enumerate(with_front(rows, lambda own: (-own.recall, own.p50, own.memory))):
        beaten = any(
            (one.recall >= found.recall and one.p50 <= found.p50 and one.memory <= found.memory)
            and (one.recall, one.p50, one.memory) != (found.recall, found.p50, found.memory)
            for other, one in enumerate(rows)
            if other != number
        )
        assert found.front is not beaten


@pytest.mark.parametrize(("least", "chosen"), [("memory", 0), ("latency", 1), ("disk", 2)])
def test_a_rule_takes_least_of_what_it_says_among_those_with_the_recall(least: Any, chosen: int) -> None:
    rows = [row(0.98, 3, 100, 9), row(0.99, 1, 300, 9), row(1.0, 2, 200, 5), row(0.9, 0.1, 1, 1)]
    assert Rule(0.98, least).choose(rows) == (rows[chosen], True)


def test_of_equal_rows_the_fastest_is_chosen_and_without_enough_recall_the_closest_is_named_as_that() -> None:
    rows = [row(0.99, 3, 100), row(0.98, 2, 100)]
    assert Rule().choose(rows)[0] is rows[1]
    rows = [row(0.5, 1, 1), row(0.7, 2, 2)]
    assert Rule(0.9).choose(rows) == (rows[1], False)


def test_rules_that_mean_nothing_are_refused() -> None:
    with pytest.raises(TuneError, match=r"(?s)recall is out of range.*got: 1\.5"):
        Rule(1.5)
    with pytest.raises(TuneError, match=r"(?s)no such measure.*memory, latency, disk"):
        Rule(0.9, "money")  # type: ignore[arg-type]
    assert str(Rule(0.95, "disk")) == "least disk with a recall of 0.95 or more"
