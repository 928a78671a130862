"""One slot's stage: encodes a piece of inputs, and finds the inputs that cannot be encoded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diptych.errors import ContractError, FingerprintMismatch, PopulateError
from diptych.populate.rejects import reason_of
from diptych.populate.validate import Item
from diptych.reports import UnreadTokens
from diptych.slots.encode import Vector, all_finite, is_finite
from diptych.slots.guard import TEXTS
from diptych.slots.slot import Slot
from diptych.slots.unread import UnreadCounter

Outcome = Vector | str  # a vector, or the reason why there is none


class Busy:
    """When an encoder was working in a run: total seconds, and the first and last moment in ns since 1970."""

    def __init__(self) -> None:
        self.seconds, self.began, self.ended = 0.0, 0, 0

    def note(self, began: int) -> None:
        """Record that it worked from then until now."""
        self.began, self.ended = self.began or began, time.time_ns()
        self.seconds += (self.ended - began) / 1e9


@dataclass(frozen=True, slots=True)
class SlotEncoder:
    """Encodes documents for one slot.

    When an encoder fails on a piece, a plain text shows whether it still works. If so, the piece is halved until the
    texts that it fails on are alone; if not, the run stops.
    """

    slot: Slot
    busy: Busy = field(default_factory=Busy)
    unread: UnreadCounter = field(default_factory=UnreadCounter)

    def __call__(self, inputs: Sequence[str]) -> list[Outcome]:
        """Return for each input its vector, or the reason why it has none.

        Raises:
            ContractError: the encoder breaks its contract.
            FingerprintMismatch: a remote encoder has become another one.
            PopulateError: the encoder no longer works.
        """
        if not inputs:
            return []
        began = time.time_ns()
        try:
            outcomes = self._outcomes(inputs)
        finally:
            self.busy.note(began)
        self.unread.count(self.slot, inputs, (time.time_ns() - began) / 1e9)
        return outcomes

    def _outcomes(self, inputs: Sequence[str]) -> list[Outcome]:
        try:
            vectors = self.slot.encode("document", inputs)
        except (ContractError, FingerprintMismatch):
            raise
        except Exception as error:
            self._require_working(error)
            return self._halves(inputs, error)
        if all_finite(vectors):
            return [*vectors]
        return [v if is_finite(v) else f"non-finite vector from {self.slot.where}" for v in vectors]

    def _halves(self, inputs: Sequence[str], error: Exception) -> list[Outcome]:
        if len(inputs) == 1:
            return [f"the encoder of {self.slot.where} fails on it: {reason_of(error)}"]
        middle = len(inputs) // 2
        return [*self._outcomes(inputs[:middle]), *self._outcomes(inputs[middle:])]

    def _require_working(self, error: Exception) -> None:
        try:
            self.slot.encode("document", [TEXTS[0]], fresh=True)
        except Exception:
            raise PopulateError(
                "an encoder fails, and not because of the documents",
                where=self.slot.where,
                got=reason_of(error),
                expected=f"a vector, even for the text {TEXTS[0]!r}",
                do="fix what it needs and run again: what is in the collection is not encoded again",
            ) from error


def taken_unread(encoders: Mapping[str, SlotEncoder]) -> dict[str, UnreadTokens]:
    """What the encoders did not read since the last call, by vector."""
    taken = {vector: encoder.unread.take() for vector, encoder in encoders.items()}
    return {vector: unread for vector, unread in taken.items() if unread is not None}


def inputs_of(encoder: SlotEncoder, items: Sequence[Item]) -> list[str]:
    """The encoder's input for each document."""
    reading = encoder.slot.reading
    return [reading.of(item.document.title, item.document.text) for item in items]
