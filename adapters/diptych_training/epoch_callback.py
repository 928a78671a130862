"""What a training looks up again every few epochs, with the model as it is then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from transformers import TrainerCallback

Found = TypeVar("Found")


class Recurring(TrainerCallback, ABC, Generic[Found]):
    """Looks something up as some epochs begin: a subclass says when, what, and what it is for.

    A training that goes on within an epoch takes what was kept as that epoch began, so that it ends as one that was
    never killed.
    """

    _done = -1

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Look up again, if it is time."""
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
        """Whether it is looked up as this epoch begins."""

    @abstractmethod
    def found(self, epoch: int, *, bf16: bool) -> Found:
        """What is there now; kept, too, where the training is to outlive a kill."""

    @abstractmethod
    def kept(self, epoch: int) -> Found | None:
        """What was found as this epoch began; None if it was not kept."""

    @abstractmethod
    def take(self, found: Found, epoch: int) -> None:
        """Use it from this epoch on."""
