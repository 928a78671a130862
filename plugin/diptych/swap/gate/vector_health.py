"""Checks the new encoder's canaries, how many points lack a vector, and whether stored vectors can be searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import FingerprintMismatch
from diptych.handle.snapshot import View
from diptych.metadata.models import Generation
from diptych.populate.store import lacking
from diptych.slots import guard
from diptych.slots.slot import Slot
from diptych.swap.sample import FETCH, PointId

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

COLLAPSED = 0.999  # mean cosine of different documents; the narrowest useful models measured stay below .95
TOLERATED = 0.01  # share of a sample that may be empty, as of documents without a known word
LEAST_VECTORS = 10  # with fewer vectors, nothing is concluded


@dataclass(frozen=True, slots=True)
class Canary:
    """A slot's encoder now, compared with the one that filled its new vector.

    `likeness` is the lowest cosine over the canaries, the fixed texts whose vectors the collection stores to recognise
    its encoder; None, with the reason in `problem`, when it is another encoder.
    """

    slot: str
    likeness: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """A sample of a slot's stored new vectors.

    Args:
        slot, vector: their slot and physical vector.
        sampled: vectors checked; 0 for a text index, which has none.
        not_finite: vectors with NaN or infinity.
        empty: vectors that are zero, or have no term.
        alike: mean cosine of two of them; None if fewer than two.
        distinct: number of different vectors.
        norms: lowest, median and highest length; for a multi-vector the length of its mean.
    """

    slot: str
    vector: str
    sampled: int
    not_finite: int = 0
    empty: int = 0
    alike: float | None = None
    distinct: int = 0
    norms: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def problems(self) -> list[str]:
        """Why these vectors cannot be searched; empty when they can."""
        problems = []
        if self.not_finite:
            problems.append(f"{self.not_finite} of {self.sampled} stored vectors hold NaN or infinity")
        if self.empty > TOLERATED * self.sampled:
            problems.append(f"{self.empty} of {self.sampled} stored vectors are empty")
        full = self.sampled - self.not_finite - self.empty
        if full >= LEAST_VECTORS and self.alike is not None and self.alike >= COLLAPSED:
            problems.append(f"stored vectors hardly differ: mean cosine {self.alike:.5f} of {full} documents")
        elif full >= LEAST_VECTORS and self.distinct < full / 2:
            problems.append(f"only {self.distinct} of {full} stored vectors are different")
        return [f"slot {self.slot!r}: {problem}" for problem in problems]


def check_canary(slot: Slot) -> Canary:
    """Compare the slot's encoder now with the record of the one that filled the vector."""
    generation = slot.generation
    if generation is None:
        return Canary(slot.name, None, "the slot has no generation")
    try:
        encoder = slot.encoder
        now = guard.fingerprint_of(encoder, slot.config.adapter, slot.config.options)
        return Canary(slot.name, guard.check(encoder, now, generation, where=slot.where).lowest)
    except FingerprintMismatch as error:
        return Canary(slot.name, None, str(error))


def check_stored(view: View, slot: Slot, points: Sequence[PointId]) -> StoredVectors:
    """Statistics of the stored vectors of these points."""
    if slot.kind == "text_index":
        return StoredVectors(slot.name, slot.vector, 0)
    rows = _matrix([vector for vector in _stored(view, slot.vector, points) if vector is not None])
    finite = np.isfinite(rows).all(axis=1)
    good = rows[finite]
    norms = np.linalg.norm(good, axis=1)
    compared = good[:, :-1] if slot.anchored else good  # the last number is the mean, which hides what differs
    lengths = np.linalg.norm(compared, axis=1)
    full = compared[lengths > 0] / lengths[lengths > 0, None]
    return StoredVectors(
        slot=slot.name,
        vector=slot.vector,
        sampled=len(rows),
        not_finite=int((~finite).sum()),
        empty=int((norms == 0).sum()),
        alike=_alike(full),
        distinct=len(np.unique(full.round(5), axis=0)),
        norms=_spread(norms),
    )


def _stored(view: View, vector: str, points: Sequence[PointId]) -> list[Any]:
    vectors: list[Any] = []
    for start in range(0, len(points), FETCH):
        page = list(points[start : start + FETCH])
        records = view.client.retrieve(view.name, page, with_payload=False, with_vectors=[vector])
        vectors += [_named(record.vector, vector) for record in records]
    return vectors


def _named(vectors: Any, name: str) -> Any:
    """The vector of this name; an unnamed vector is returned without a mapping."""
    return vectors.get(name) if isinstance(vectors, dict) else vectors


def _matrix(vectors: Sequence[Any]) -> NDArray[np.float64]:
    """A row for each vector: dense as it is, the mean of a multi-vector, the weights of a sparse one over all terms."""
    if vectors and hasattr(vectors[0], "indices"):
        return _terms(vectors)
    rows = [np.asarray(vector, np.float64) for vector in vectors]
    means = [row.mean(axis=0) if row.ndim == 2 else row for row in rows]
    return np.stack(means) if means else np.zeros((0, 0))


def _terms(vectors: Sequence[Any]) -> NDArray[np.float64]:
    columns = {term: n for n, term in enumerate(sorted({term for vector in vectors for term in vector.indices}))}
    rows = np.zeros((len(vectors), len(columns)))
    for row, vector in zip(rows, vectors, strict=True):
        row[[columns[term] for term in vector.indices]] = vector.values
    return rows


def _alike(unit: NDArray[np.float64]) -> float | None:
    """Mean cosine over all pairs of rows of length 1, from the length of their sum."""
    count = len(unit)
    if count < 2:
        return None
    total = unit.sum(axis=0)
    return float((total @ total - count) / (count * (count - 1)))


def _spread(norms: NDArray[np.float64]) -> tuple[float, float, float]:
    if not len(norms):
        return 0.0, 0.0, 0.0
    low, middle, high = np.quantile(norms, [0, 0.5, 1])
    return float(low), float(middle), float(high)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of `points` points, `missing` have no `vector`; of a text index, no text under that key."""

    vector: str
    points: int
    missing: int


def coverage(client: QdrantBase, name: str, generation: Generation) -> Coverage:
    """How many points of collection `name` lack the vector of `generation`, counted exactly."""
    missing = client.count(name, count_filter=lacking(generation), exact=True).count
    return Coverage(generation.vector, client.count(name, exact=True).count, missing)
