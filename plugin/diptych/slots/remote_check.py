"""`Watch`: checks a remote encoder again and again, since the model behind an endpoint can change at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint
from diptych.slots import guard
from diptych.slots.canaries import Likeness, likenesses, pack, sketches, texts_of
from diptych.slots.encode import Side, Vector, encode

RECHECK = 600.0  # seconds of use after which the canaries of a side are encoded again


class Watch:
    """Encodes with a remote encoder as long as it still makes the vectors of the generation.

    Before it encodes, the canaries of that side are encoded again when the last time is `interval` seconds ago: one
    request more. After each call for documents, whose vectors stay, one short canary is encoded, so that none is kept
    which may have been made by another model. It is sent when the answers are there, not along with the documents: an
    adapter spreads those over several requests at once.

    Args:
        interval: seconds between two looks, while it is used.
        clock: tells the seconds.
    """

    def __init__(self, *, interval: float = RECHECK, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval, self.clock = interval, clock
        self._looked: dict[Side, float] = {}
        self._lock = threading.Lock()
        self._looks = 0
        self._failure: Exception | None = None

    def proved(self) -> None:
        """Note that both sides were compared just now, or recorded."""
        now = self.clock()
        self._looked = {"query": now, "document": now}

    def encode(
        self, encoder: Any, now: Fingerprint, generation: Generation, side: Side, inputs: Sequence[str], *, where: str
    ) -> list[Vector]:
        """One vector per input, in order.

        Raises:
            FingerprintMismatch: the encoder makes other vectors than it made for this generation.
            ContractError: it breaks its contract.
        """
        if generation.canaries is None:
            return encode(encoder, generation.kind, side, inputs, where=where)
        looks = self._looks
        with self._lock:
            if self._is_due(side):
                self._look_once(looks, lambda: self._look(encoder, now, generation, side, where))
        vectors = encode(encoder, generation.kind, side, inputs, where=where)
        if side == "document" and inputs:
            canary = texts_of(generation.canaries.edition)[:1]
            shown = encode(encoder, generation.kind, side, canary, where=where)
            _require_alike(side, [pack(vector) for vector in shown], now, generation, where)
        return vectors

    def _is_due(self, side: Side) -> bool:
        looked = self._looked.get(side)
        return looked is None or self.clock() - looked >= self.interval

    def _look_once(self, before: int, look: Callable[[], None]) -> None:
        """Compare, unless another thread just did and failed while this one waited: a dead endpoint is called once."""
        if self._looks != before and self._failure is not None:
            raise self._failure
        self._failure = None
        try:
            look()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._looks += 1

    def _look(self, encoder: Any, now: Fingerprint, generation: Generation, side: Side, where: str) -> None:
        """Compare all canaries of a side. A failed comparison does not count, so the next call compares again."""
        then = generation.canaries
        assert then is not None
        known = then.query if side == "query" else then.document
        found = sketches(encoder, generation.kind, side, where=where, edition=then.edition, known=known)
        _require_alike(side, found, now, generation, where)
        self._looked[side] = self.clock()


def _require_alike(side: Side, found: Sequence[str], now: Fingerprint, generation: Generation, where: str) -> None:
    """Raise FingerprintMismatch unless the packed vectors are like the recorded ones."""
    then = generation.canaries
    assert then is not None
    known = then.query if side == "query" else then.document
    alike = likenesses(found, known[: len(found)])
    texts = texts_of(then.edition)
    likeness = Likeness(alike, (), texts) if side == "query" else Likeness((), alike, texts)
    guard.require_alike(likeness, now, generation, where=f"{where}, looked at again while it serves")
