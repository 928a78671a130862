"""The base of callbacks that recompute something every few epochs with the current model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from transformers import TrainerCallback

Value = TypeVar("Value")


class EpochCallback(TrainerCallback, ABC, Generic[Value]):
    """Recomputes a value at the start of some epochs; a subclass says when, which value, and how it is used.

    A training that is resumed within an epoch uses the value stored when that epoch began, so that it ends like one
    that was never killed.
    """

    _last_start = -1

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Recompute, if it is time."""
        epoch = int(state.epoch or 0)
        due = [start for start in range(epoch + 1) if self.starts(start)]
        if due and due[-1] > self._last_start:
            self._last_start = due[-1]
            # A value stored before this epoch has begun is another training's.
            value = self.stored(due[-1]) if (state.epoch or 0) > due[-1] else None
            if value is None:
                value = self.compute(due[-1], bf16=bool(getattr(args, "bf16", False)))
            self.use(value, epoch)

    @abstractmethod
    def starts(self, epoch: int) -> bool:
        """Whether it is recomputed at the start of this epoch."""

    @abstractmethod
    def compute(self, epoch: int, *, bf16: bool) -> Value:
        """The new value; stored, if it must survive a kill."""

    @abstractmethod
    def stored(self, epoch: int) -> Value | None:
        """The value stored when this epoch began; None if it was not stored."""

    @abstractmethod
    def use(self, value: Value, epoch: int) -> None:
        """Use the value from this epoch on."""
