"""What tests of swaps share: two encoders of a slot, documents, and a progress that does something else meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from diptych import Collection
from diptych.populate import Progress
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document

DENSE: dict[str, Any] = {"adapter": "fake-dense", "dimension": 16}
OTHER: dict[str, Any] = {**DENSE, "seed": 1}
OLD, NEW = {"dense": DENSE}, {"dense": OTHER}
OLD_ENCODER, NEW_ENCODER = FakeDenseEncoder(dimension=16), FakeDenseEncoder(dimension=16, seed=1)
Open: TypeAlias = Callable[..., Collection]
Make: TypeAlias = Callable[..., Any]
Faults: TypeAlias = Callable[..., list[str]]


def corpus(size: int) -> list[Document]:
    return [Document(str(n), f"word{n % 17} word{n % 23} number{n}") for n in range(size)]


class Killed(BaseException):
    """Ends work as a kill does: nothing handles it."""


class Meanwhile(Progress):
    """Does something once, when so many documents are filled."""

    def __init__(self, act: Callable[[], object], after: int = 1) -> None:
        self._left, self._act = after, act

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, steps: int) -> None:
        """Counts."""
        if stage == "fill" and self._left > 0:
            self._left -= steps
            if self._left <= 0:
                self._act()
