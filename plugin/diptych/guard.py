"""The guard: an encoder that did not make a collection's vectors must not query it, equal dimension or not.

A fingerprint says what an encoder claims to be; canaries show what it is: a few texts, encoded as query and as document
when the collection was made, encoded again when it is opened. They are chosen so that another model, pooling, prompt,
truncation, or a mix-up of the two sides moves at least one of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.encoding import Side, Vector, encode, require_finite
from diptych.errors import FingerprintMismatch
from diptych.metadata import Canaries, Generation
from diptych.protocols import Fingerprint, Kind
from diptych.types import Floats, SparseVector

# Short, plain, several scripts, digits and markup, and long ones that end beyond common truncations (128, 256, 512
# tokens): two texts of the same beginning and another end differ only for an encoder that reads that far.
_LONG = " ".join(f"Item {n} of the list tells of rivers, engines and music in year {1900 + n}." for n in range(45))
TEXTS: tuple[str, ...] = (
    "audio converter",
    "How do I mount an encrypted disk at boot?",
    "Straße, naïve café; жаркое лето, 東京の天気, مرحبا",
    '{"key": [1, 2.5e-3]} <b>bold</b> C++ v1.2.3-rc1',
    _LONG[:700],
    _LONG,
)

SIDES: tuple[Side, Side] = ("query", "document")

# Lowest likeness over the canaries that counts as the same space. bfloat16 against float32 stays above .999; other
# models, poolings and prompts measured so far fall below .97.
MINIMUM_LIKENESS = 0.995


def fingerprint_of(encoder: Any, adapter: str, options: dict[str, Any]) -> Fingerprint:
    """The encoder's own fingerprint, or one derived from its adapter, options and declared facts."""
    own = getattr(encoder, "fingerprint", None)
    if isinstance(own, Fingerprint):
        return own
    facts = {name: getattr(encoder, name, None) for name in ("dimension", "similarity", "uses_idf")}
    return Fingerprint("declared:" + _digest(repr((adapter, sorted(options.items(), key=str), facts))))


def record_canaries(encoder: Any, kind: Kind, *, where: str) -> Canaries | None:
    """The canaries of an encoder; None for a text index, which has no vectors."""
    if kind == "text_index":
        return None
    return Canaries(
        query=_sketches(encoder, kind, "query", where), document=_sketches(encoder, kind, "document", where)
    )


def check(encoder: Any, now: Fingerprint, generation: Generation, *, where: str) -> float:
    """The lowest canary likeness between now and then, once fingerprint and canaries agree.

    Raises:
        FingerprintMismatch: they do not; the text names both fingerprints and the cosine.
    """
    if now.space != generation.space:
        raise _mismatch("another encoder made the vectors of this collection", where, now, generation.fingerprint)
    if generation.canaries is None:
        return 1.0
    likeness = min(
        lowest_likeness(_sketches(encoder, generation.kind, side, where), getattr(generation.canaries, side))
        for side in SIDES
    )
    if likeness < MINIMUM_LIKENESS:
        raise _mismatch(
            f"the encoder no longer makes the vectors it made (canary cosine {likeness:.4f})",
            where,
            now,
            generation.fingerprint,
        )
    return likeness


def lowest_likeness(now: Sequence[str], then: Sequence[str]) -> float:
    """The lowest likeness over two lists of packed vectors; 0 when counts or forms differ."""
    if len(now) != len(then):
        return 0.0
    pairs = [(_unpack(a), _unpack(b)) for a, b in zip(now, then, strict=True)]
    return min(_likeness(a, b) if form == other else 0.0 for (form, a), (other, b) in pairs)


def _mismatch(what: str, where: str, now: Fingerprint, then: Fingerprint) -> FingerprintMismatch:
    return FingerprintMismatch(
        what,
        where=where,
        got=f"fingerprint {now}",
        expected=f"fingerprint {then}, which filled the collection",
        do="restore the encoder and its options; to change it: diptych plan, then diptych apply",
        now=now,
        then=then,
    )


def _sketches(encoder: Any, kind: Kind, side: Side, where: str) -> list[str]:
    vectors = encode(encoder, kind, side, TEXTS, where=where)
    require_finite(vectors, TEXTS, where=where)
    return [_pack(*_flatten(vector)) for vector in vectors]


def _flatten(vector: Vector) -> tuple[str, dict[int, float] | Floats]:
    """A form and the numbers: a dense vector as it is; of a multi-vector its count, mean, first and last token."""
    if isinstance(vector, SparseVector):
        return "sparse", dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    if vector.ndim == 1:
        return "dense", vector
    return f"tokens{len(vector)}", np.concatenate([vector.mean(axis=0), vector[0], vector[-1]]).astype(np.float32)


def _pack(form: str, vector: dict[int, float] | Floats) -> str:
    if isinstance(vector, dict):
        indices, values = np.array(list(vector), np.uint32), np.array(list(vector.values()), np.float32)
        return f"{form}:{_encode(indices)}:{_encode(values)}"
    return f"{form}:{_encode(vector)}"


def _unpack(text: str) -> tuple[str, dict[int, float] | Floats]:
    form, *parts = text.split(":")
    raw = [base64.b64decode(part) for part in parts]
    if form != "sparse":
        return form, np.frombuffer(raw[0], np.float32)
    indices, values = np.frombuffer(raw[0], np.uint32), np.frombuffer(raw[1], np.float32)
    return form, dict(zip(indices.tolist(), values.tolist(), strict=True))


def _encode(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _likeness(a: dict[int, float] | Floats, b: dict[int, float] | Floats) -> float:
    """2ab / (aa + bb): the cosine where both have one length, and less where lengths differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b})
        a, b = (np.array([side.get(key, 0.0) for key in keys], np.float32) for side in (a, b))
    if isinstance(a, dict) or isinstance(b, dict) or a.shape != b.shape:
        return 0.0
    total = float(a @ a + b @ b)
    return 2 * float(a @ b) / total if total else 1.0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
