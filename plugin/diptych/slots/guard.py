"""The guard checks an encoder's identity: it must be the one that made a collection's vectors, or it is refused.

A fingerprint says what an encoder claims to be; canaries show what it is: a few texts, encoded as query and as document
when the collection was created, and again before an encoder serves.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from diptych.config.load import as_written
from diptych.config.models import SlotConfig
from diptych.config.problems import redacted
from diptych.errors import FingerprintMismatch
from diptych.metadata.models import Canaries, Generation
from diptych.protocols import Fingerprint, Kind
from diptych.runtime.passed_checks import recalled, remember
from diptych.slots import canaries
from diptych.slots.canaries import TEXTS, Likeness, likenesses, pack, sketches, texts_of
from diptych.slots.encode import Side, Vector, encode

__all__ = [
    "COARSEST",
    "MINIMUM_LIKENESS",
    "OTHER_NUMERICS",
    "RECHECK",
    "TEXTS",
    "Likeness",
    "RemoteCheck",
    "check",
    "compare",
    "config_difference",
    "difference",
    "fingerprint_of",
    "minimum_likeness",
    "other_kind",
    "record_canaries",
    "require_alike",
    "takes_text_queries",
]

SIDES: tuple[Side, Side] = ("query", "document")

PASSED = "canaries"  # under which checks that passed are remembered

# Lowest likeness over the canaries that counts as the same space; measured by tests/benchmarks/compare_fingerprints.py.
MINIMUM_LIKENESS = 0.995
OTHER_NUMERICS = 0.95  # where backend or precision are declared to be others
LOSSY = {"int8"}  # precisions, as `numerics` names them
COARSEST = 0.9  # whatever an encoder's own noise is


def fingerprint_of(encoder: Any, adapter: str, options: dict[str, Any]) -> Fingerprint:
    """The encoder's own fingerprint, or one derived from its adapter, options and declared facts."""
    fingerprint = getattr(encoder, "fingerprint", None)
    if isinstance(fingerprint, Fingerprint):
        return fingerprint
    facts = {name: getattr(encoder, name, None) for name in ("dimension", "similarity", "uses_idf")}
    return Fingerprint("declared:" + _digest(repr((adapter, sorted(options.items(), key=str), facts))))


def record_canaries(
    encoder: Any, kind: Kind, modality: str = "text", accepts: Sequence[str] = ("text",), *, where: str
) -> Canaries | None:
    """The canaries of an encoder; None for a text index, which has no vectors.

    Args:
        modality: what it reads of documents.
        accepts: kinds of input that it takes; queries for media may be texts.
    """
    if kind == "text_index":
        return None
    query, document = (
        sketches(encoder, kind, side, where=where, modality=modality, texts_too="text" in accepts) for side in SIDES
    )
    steady = canaries.steadiness(encoder, kind, document, where=where, modality=modality)
    return Canaries(edition=canaries.EDITION, query=query, document=document, steady=steady)


def compare(encoder: Any, generation: Generation, *, where: str) -> Likeness:
    """How alike the encoder's canaries are to the generation's, ignoring fingerprints."""
    recorded = generation.canaries
    if recorded is None:
        return Likeness()
    again = partial(
        sketches,
        encoder,
        generation.kind,
        where=where,
        edition=recorded.edition,
        modality=generation.reading.modality,
        texts_too=takes_text_queries(generation),
    )
    query, document = (
        likenesses(again(side, recorded=expected), expected)
        for side, expected in zip(SIDES, (recorded.query, recorded.document), strict=True)
    )
    return Likeness(query, document, canaries.texts_of(recorded.edition))


def takes_text_queries(generation: Generation) -> bool:
    """Whether the generation is of media whose queries can be texts, so that its query canaries are texts and media."""
    recorded = generation.canaries
    return recorded is not None and len(recorded.query) > len(recorded.document)


def minimum_likeness(fingerprint: Fingerprint, generation: Generation) -> float:
    """The lowest likeness that counts as the same space.

    It is lower if backend or precision differ or are lossy, since int8 ranges depend on the sample texts. For an
    encoder whose vectors depend on the batch, the limit allows twice its own deviation.
    """
    same = fingerprint.numerics == generation.numerics and not LOSSY & {*fingerprint.numerics.split()}
    minimum = MINIMUM_LIKENESS if same else OTHER_NUMERICS
    steady = generation.canaries.steady if generation.canaries else 1.0
    return min(minimum, max(1 - 2 * (1 - steady), COARSEST))


def check(
    encoder: Any, fingerprint: Fingerprint, generation: Generation, *, where: str, reuse: bool = False
) -> Likeness:
    """The likeness of the canaries; raises unless fingerprint and canaries match.

    Args:
        encoder, fingerprint: the encoder and its fingerprint.
        generation: the collection's record of the encoder that made its vectors.
        where: the slot's name in errors.
        reuse: an unchanged `Identified` encoder that passed before is not encoded again.

    Raises:
        FingerprintMismatch: they do not; the text names both fingerprints, what differs, and the cosine.
    """
    recorded = generation.fingerprint
    if fingerprint.space != recorded.space:
        what = "another encoder made the vectors of this collection"
        raise mismatch(what, where, fingerprint, recorded, difference(fingerprint, recorded))
    state = _state(encoder, fingerprint, generation) if reuse else None
    if state is not None and generation.canaries and (stored := recalled(PASSED, "".join(state), state)) is not None:
        query, document = map(tuple, stored)
        return Likeness(query, document, canaries.texts_of(generation.canaries.edition))
    likeness = compare(encoder, generation, where=where)
    require_alike(likeness, fingerprint, generation, where=where)
    if state is not None and state == _state(encoder, fingerprint, generation):
        remember(PASSED, "".join(state), state, [likeness.query, likeness.document])
    return likeness


def _state(encoder: Any, fingerprint: Fingerprint, generation: Generation) -> list[str] | None:
    """The values that must stay the same for a check to remain valid; None if they are unknown."""
    identity = getattr(encoder, "identity", "")
    if not isinstance(identity, str) or not identity or generation.canaries is None:
        return None
    recorded = generation.fingerprint
    facts = (generation.canaries.model_dump_json(), minimum_likeness(fingerprint, generation))
    return [identity, str(fingerprint), fingerprint.documents, str(recorded), recorded.documents, _digest(repr(facts))]


def require_alike(likeness: Likeness, fingerprint: Fingerprint, generation: Generation, *, where: str) -> None:
    """Raise FingerprintMismatch unless the canaries are alike enough to be of one space."""
    limit = minimum_likeness(fingerprint, generation)
    if not likeness.lowest >= limit:
        what = f"the encoder no longer makes the vectors it made (canary cosine {likeness.lowest:.4f})"
        changed = f"{likeness.below(limit)} (below {limit:.4g})"
        raise mismatch(what, where, fingerprint, generation.fingerprint, changed, likeness=likeness)


def difference(current: Fingerprint, recorded: Fingerprint) -> str:
    """The parts in which two spaces differ, such as `pooling, length`; empty where they are unknown."""
    parts, other_parts = (
        dict(part.split(":", 1) for part in side.space.split(" ") if ":" in part) for side in (current, recorded)
    )
    if min(len(parts), len(other_parts)) < 2:
        return ""
    return ", ".join(name for name in {**parts, **other_parts} if parts.get(name) != other_parts.get(name))


def config_difference(config: SlotConfig, live: Generation) -> str:
    """How the config differs from the collection: `; language: english in the collection, now german`."""
    recorded, configured = ({"adapter": side.adapter, **side.options} for side in (live, config))
    keys = [key for key in {**recorded, **configured} if recorded.get(key) != configured.get(key)]
    sides = [redacted(recorded), redacted(configured)]
    old, new = ({key: as_written(side.get(key)) for key in keys} for side in sides)
    return "".join(f"; {key}: {old[key]} in the collection, now {new[key]}" for key in keys)


def mismatch(
    what: str,
    where: str,
    fingerprint: Fingerprint,
    recorded: Fingerprint,
    changed: str,
    *,
    likeness: Likeness | None = None,
) -> FingerprintMismatch:
    """The error for an encoder that did not make a collection's vectors; `changed` says what differs."""
    return FingerprintMismatch(
        what,
        where=f"{where}; changed: {changed}" if changed else where,
        got=f"fingerprint {fingerprint}",
        expected=f"fingerprint {recorded}, which filled the collection",
        do="restore the encoder and its options; to change it: diptych plan, then diptych apply",
        now=fingerprint,
        then=recorded,
        likeness=likeness,
    )


def other_kind(got: str, generation: Generation, *, where: str) -> FingerprintMismatch:
    """The error for a config whose slot has another kind of vectors: by another adapter, or by `passages`."""
    return FingerprintMismatch(
        "the config's slot makes vectors of another kind than those that fill it",
        where=where,
        got=got,
        expected=f"{generation.adapter} ({generation.kind})",
        do="restore the adapter and its options, `passages` among them; to change it: diptych plan, then diptych apply",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
                self._compare_once(checks, encoder, fingerprint, generation, side, where)
        vectors = encode(encoder, generation.kind, side, inputs, where=where)
        if side == "document" and inputs:
            canary = texts_of(generation.canaries.edition)[:1]
            canary_vectors = encode(encoder, generation.kind, side, canary, where=where)
            _require_side_alike(side, [pack(vector) for vector in canary_vectors], fingerprint, generation, where)
        return vectors

    def _compare_once(
        self, checks: int, encoder: Any, fingerprint: Fingerprint, generation: Generation, side: Side, where: str
    ) -> None:
        """Compare all canaries of a side. A failed comparison does not count, so the next call compares again.

        Unless another thread just did and failed while this one waited: a dead endpoint is called once.
        """
        if self._checks != checks and self._failure is not None:
            raise self._failure
        self._failure = None
        try:
            canaries = generation.canaries
            assert canaries is not None
            recorded = canaries.query if side == "query" else canaries.document
            current = sketches(encoder, generation.kind, side, where=where, edition=canaries.edition, recorded=recorded)
            _require_side_alike(side, current, fingerprint, generation, where)
            self._checked_at[side] = self.clock()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._checks += 1


def _require_side_alike(
    side: Side, current: Sequence[str], fingerprint: Fingerprint, generation: Generation, where: str
) -> None:
    """Raise FingerprintMismatch unless the packed vectors are like the recorded ones."""
    canaries = generation.canaries
    assert canaries is not None
    recorded = canaries.query if side == "query" else canaries.document
    side_likeness = likenesses(current, recorded[: len(current)])
    texts = texts_of(canaries.edition)
    likeness = Likeness(side_likeness, (), texts) if side == "query" else Likeness((), side_likeness, texts)
    require_alike(likeness, fingerprint, generation, where=f"{where}, looked at again while it serves")
