"""Which rows are worth a look, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from diptych.errors import TuneError
from diptych.tune.reports import Row

Least: TypeAlias = Literal["memory", "latency", "disk"]
LEAST: tuple[Least, ...] = get_args(Least)


@dataclass(frozen=True, slots=True)
class Rule:
    """Of the rows with this recall, the one that takes least of something; of equal ones the fastest.

    Raises:
        TuneError: a recall that is none, or something that is not measured.
    """

    recall: float = 0.98
    least: Least = "memory"

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise TuneError("this recall cannot be wanted", got=self.recall, expected="more than 0, at most 1")
        if self.least not in LEAST:
            raise TuneError("this is not measured", got=self.least, expected=", ".join(LEAST))

    def choose(self, rows: Sequence[Row]) -> tuple[Row, bool]:
        """The row, and whether it has the recall; where none has, it is the one that comes closest."""
        fitting = [row for row in rows if row.recall >= self.recall]
        if not fitting:
            return max(rows, key=lambda row: (row.recall, -row.p50)), False
        return min(fitting, key=lambda row: (self._cost(row), row.p50)), True

    def __str__(self) -> str:
        return f"least {self.least} with a recall of {self.recall:g} or more"

    def _cost(self, row: Row) -> float:
        return {"memory": row.memory, "latency": row.p50, "disk": row.disk}[self.least]


def with_front(rows: Sequence[Row]) -> list[Row]:
    """The rows, each told whether it is on the Pareto front of recall, p50 and memory."""
    return [replace(row, front=not any(_beats(other, row) for other in rows)) for row in rows]


def _beats(one: Row, other: Row) -> bool:
    """Whether `one` is nowhere worse, and somewhere better."""
    mine, theirs = ((-row.recall, row.p50, row.memory) for row in (one, other))
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))
