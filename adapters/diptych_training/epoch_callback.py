"""A base for what a training recomputes every few epochs with the current model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from transformers import TrainerCallback

Found = TypeVar("Found")


class Recurring(TrainerCallback, ABC, Generic[Found]):
    """Recomputes something at the start of some epochs: a subclass says when, what, and how it is used.

    A training that goes on within an epoch takes what was kept as that epoch began, so that it ends as one that was
    never killed.
    """

    _done = -1

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Recompute, if it is time."""
        epoch = int(state.epoch or 0)
        due = [one for one in range(epoch + 1) if self.starts(one)]
        if due and due[-1] > self._done:
            self._done = due[-1]
            found = self.kept(due[-1]) if (state.epoch or 0) > due[-1] else None  # else it is of another training
            if found is None:
                found = self.found(due[-1], bf16=bool(getattr(args, "bf16", False)))
            self.take(found, epoch)

    @abstractmethod
    def starts(self, epoch: int) -> bool:
        """Whether it is recomputed at the start of this epoch."""

    @abstractmethod
    def found(self, epoch: int, *, bf16: bool) -> Found:
        """The new value; stored, if it must survive a kill."""

    @abstractmethod
    def kept(self, epoch: int) -> Found | None:
        """The value stored when this epoch began; None if it was not stored."""

    @abstractmethod
    def take(self, found: Found, epoch: int) -> None:
        """Use the value from this epoch on."""
