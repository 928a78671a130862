"""`RemoteCheck`: checks a remote encoder again and again, since the model behind an endpoint can change at any time."""

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


class RemoteCheck:
    """Encodes with a remote encoder as long as it still makes the vectors of the generation.

    Before it encodes, the canaries of that side are encoded again if the last time was `interval` seconds ago, in one
    more request. After each call for documents one short canary is encoded, so that no vector of another model is
    stored. It is sent after the answers, not along with the documents, because an adapter spreads documents over
    several parallel requests.

    Args:
        interval: seconds of use between two comparisons.
        clock: returns the time in seconds.
    """

    def __init__(self, *, interval: float = RECHECK, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval, self.clock = interval, clock
        self._checked_at: dict[Side, float] = {}
        self._lock = threading.Lock()
        self._checks = 0
        self._failure: Exception | None = None

    def proved(self) -> None:
        """Note that both sides were compared just now, or recorded."""
        now = self.clock()
        self._checked_at = {"query": now, "document": now}

    def encode(
        self,
        encoder: Any,
        fingerprint: Fingerprint,
        generation: Generation,
        side: Side,
        inputs: Sequence[str],
        *,
        where: str,
    ) -> list[Vector]:
        """One vector per input, in order.

        Raises:
            FingerprintMismatch: the encoder makes other vectors than it made for this generation.
            ContractError: it breaks its contract.
        """
        if generation.canaries is None:
            return encode(encoder, generation.kind, side, inputs, where=where)
        checks = self._checks
        with self._lock:
            checked_at = self._checked_at.get(side)
            if checked_at is None or self.clock() - checked_at >= self.interval:
                self._compare_once(checks, lambda: self._compare(encoder, fingerprint, generation, side, where))
        vectors = encode(encoder, generation.kind, side, inputs, where=where)
        if side == "document" and inputs:
            canary = texts_of(generation.canaries.edition)[:1]
            canary_vectors = encode(encoder, generation.kind, side, canary, where=where)
            _require_alike(side, [pack(vector) for vector in canary_vectors], fingerprint, generation, where)
        return vectors

    def _compare_once(self, checks: int, compare: Callable[[], None]) -> None:
        """Compare, unless another thread just did and failed while this one waited: a dead endpoint is called once."""
        if self._checks != checks and self._failure is not None:
            raise self._failure
        self._failure = None
        try:
            compare()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._checks += 1

    def _compare(self, encoder: Any, fingerprint: Fingerprint, generation: Generation, side: Side, where: str) -> None:
        """Compare all canaries of a side. A failed comparison does not count, so the next call compares again."""
        canaries = generation.canaries
        assert canaries is not None
        recorded = canaries.query if side == "query" else canaries.document
        current = sketches(encoder, generation.kind, side, where=where, edition=canaries.edition, recorded=recorded)
        _require_alike(side, current, fingerprint, generation, where)
        self._checked_at[side] = self.clock()


def _require_alike(
    side: Side, current: Sequence[str], fingerprint: Fingerprint, generation: Generation, where: str
) -> None:
    """Raise FingerprintMismatch unless the packed vectors are like the recorded ones."""
    canaries = generation.canaries
    assert canaries is not None
    recorded = canaries.query if side == "query" else canaries.document
    side_likeness = likenesses(current, recorded[: len(current)])
    texts = texts_of(canaries.edition)
    likeness = Likeness(side_likeness, (), texts) if side == "query" else Likeness((), side_likeness, texts)
    guard.require_alike(likeness, fingerprint, generation, where=f"{where}, looked at again while it serves")
