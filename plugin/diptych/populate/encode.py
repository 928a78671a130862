"""One slot's stage: encodes a piece of inputs, and finds the inputs that cannot be encoded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from diptych.errors import ContractError, FingerprintMismatch, MediaError, PopulateError, brief
from diptych.populate.rejects import reason_of
from diptych.populate.validate import Item
from diptych.reports import UnreadTokens
from diptych.slots.canaries import plain_documents
from diptych.slots.encode import Input, Vector, all_finite, is_finite
from diptych.slots.slot import Slot
from diptych.slots.unread import UnreadCounter

Outcome = Vector | str | None  # a vector, the reason why there is none, or None where the document has no input
MEDIA_AT_ONCE = 64  # inputs that are encoded again at most because one of them cannot be decoded


def has_vector(outcome: Outcome) -> TypeGuard[Vector]:
    """Whether the outcome is a vector."""
    return outcome is not None and not isinstance(outcome, str)


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

    When an encoder fails on a piece, a plain input shows whether it still works. If so, the piece is halved until the
    inputs that it fails on are alone; if not, the run stops. Media that cannot be decoded are named at once.
    """

    slot: Slot
    busy: Busy = field(default_factory=Busy)
    unread: UnreadCounter = field(default_factory=UnreadCounter)

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Return for each document its vector, the reason why it has none, or None where the encoder reads nothing.

        Raises:
            ContractError: the encoder breaks its contract.
            FingerprintMismatch: a remote encoder has become another one.
            PopulateError: the encoder no longer works.
        """
        reading = self.slot.reading
        inputs = [reading.input_of(item.document) for item in items]
        present = [given for given in inputs if given is not None]
        if not present:
            return [None] * len(items)
        began = time.time_ns()
        try:
            outcomes = self._outcomes(present)
        finally:
            self.busy.note(began)
        self.unread.count(self.slot, present, (time.time_ns() - began) / 1e9)
        following = iter(outcomes)
        return [None if given is None else next(following) for given in inputs]

    def _outcomes(self, inputs: Sequence[Input]) -> list[Outcome]:
        if self.slot.reads_media and len(inputs) > MEDIA_AT_ONCE:
            parts = (inputs[at : at + MEDIA_AT_ONCE] for at in range(0, len(inputs), MEDIA_AT_ONCE))
            return [outcome for part in parts for outcome in self._outcomes(part)]
        try:
            vectors = self.slot.encode("document", inputs)
        except (ContractError, FingerprintMismatch):
            raise
        except MediaError as error:
            return self._without(inputs, error)
        except Exception as error:
            self._require_working(error)
            return self._halves(inputs, error)
        if all_finite(vectors):
            return [*vectors]
        return [v if is_finite(v) else f"non-finite vector from {self.slot.where}" for v in vectors]

    def _without(self, inputs: Sequence[Input], error: MediaError) -> list[Outcome]:
        """The outcomes without the media that the error names."""
        readable = [given for given in inputs if given != error.media]
        if len(readable) == len(inputs):
            return self._halves(inputs, error)
        following = iter(self._outcomes(readable) if readable else ())
        return [
            f"{self.slot.where}: {reason_of(error)}" if entry == error.media else next(following) for entry in inputs
        ]

    def _halves(self, inputs: Sequence[Input], error: Exception) -> list[Outcome]:
        if len(inputs) == 1:
            return [f"the encoder of {self.slot.where} fails on it: {reason_of(error)}"]
        middle = len(inputs) // 2
        return [*self._outcomes(inputs[:middle]), *self._outcomes(inputs[middle:])]

    def _require_working(self, error: Exception) -> None:
        try:
            self.slot.try_out()
        except Exception:
            raise PopulateError(
                "an encoder fails, and not because of the documents",
                where=self.slot.where,
                got=reason_of(error),
                expected=f"a vector, even for {brief(plain_documents(self.slot.reading.modality)[0])}",
                do="fix what it needs and run again: what is in the collection is not encoded again",
            ) from error


def taken_unread(encoders: Mapping[str, SlotEncoder]) -> dict[str, UnreadTokens]:
    """What the encoders did not read since the last call, by vector."""
    taken = {vector: encoder.unread.take() for vector, encoder in encoders.items()}
    return {vector: unread for vector, unread in taken.items() if unread is not None}
