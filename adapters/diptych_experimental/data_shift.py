"""Data shift: whether today's documents are still like those that a slot's encoder was chosen for.

`take_sample` draws vectors to keep in a file; `data_shift` compares them with later ones by the maximum mean
discrepancy (Gretton et al., "A Kernel Two-Sample Test", JMLR 2012), by which PaD-TS compares populations of series;
the threshold comes from permutations. docs/research/methods/data_shift.md has figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych import Collection
from diptych.errors import CollectionError
from diptych.search import Retrieve
from diptych.types import Floats

LEAST = 200  # vectors below which nothing is compared
KEPT, TODAY = 256, 1000  # vectors in the sample, and current vectors that are compared with it
DIMENSIONS = 512  # of the sample; longer vectors are projected at random, which keeps their distances roughly
LEVEL, PERMUTATIONS = 0.01, 999
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, in median squared distances
SHOWN = 3  # documents that are named


@dataclass(frozen=True, slots=True, eq=False)
class VectorSample:
    """A sample of a slot's vectors, taken at some time.

    Args:
        fingerprint: of the encoder that made them.
        when: when they were taken, ISO 8601.
        points: documents that the collection had then.
        scale: what the stored numbers are multiplied by, above 0.
        vectors: the numbers as int8 `[n, dimensions]`, after a projection.
    """

    fingerprint: str
    when: str
    points: int
    scale: float
    vectors: NDArray[np.int8]

    def save(self, path: Path) -> None:
        """Write the sample to an .npz file."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        np.savez_compressed(path, **facts)

    @classmethod
    def load(cls, path: Path) -> VectorSample:
        """The sample that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            facts = {name: stored[name].item() for name in cls.__slots__ if name != "vectors"}
            return cls(**facts, vectors=stored["vectors"])


@dataclass(frozen=True, slots=True)
class DataShift:
    """A slot's current vectors compared with a sample.

    Args:
        compared: current vectors that were drawn for the comparison.
        discrepancy: the squared maximum mean discrepancy; unbiased, so it may be below 0; at most about 2.
        chance: share of random divisions of all these vectors that differ at least as much.
        examples: ids of drawn documents that are least like the sample and most like other current ones.
    """

    compared: int
    discrepancy: float
    chance: float
    examples: tuple[str, ...] = ()

    @property
    def shifted(self) -> bool:
        """Whether they differ by more than chance."""
        return self.chance <= LEVEL


def take_sample(collection: Collection, slot: str) -> VectorSample:
    """At most 256 of a dense slot's vectors, drawn at random.

    Raises:
        CollectionError: there is no such slot, or fewer than 200 vectors.
    """
    vectors = projected(_drawn(collection, slot, KEPT))
    scale = float(np.abs(vectors).max()) / 127 or 1.0
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return VectorSample(_maker(collection, slot), when, collection.count(), scale, rounded(vectors, scale))


def data_shift(collection: Collection, slot: str, sample: VectorSample) -> DataShift:
    """Compare a dense slot's current vectors with a sample of earlier ones.

    Raises:
        CollectionError: as `take_sample`; the sample is of another encoder's vectors.
    """
    if (maker := _maker(collection, slot)) != sample.fingerprint:
        what, where = "the sample holds another encoder's vectors", f"slot {slot!r}"
        raise CollectionError(
            what, where=where, got=sample.fingerprint, expected=maker, do="take a new one: take_sample"
        )
    drawn = _drawn(collection, slot, TODAY)
    scale = np.float32(sample.scale)
    now = rounded(projected(drawn), sample.scale) * scale
    discrepancy, chance, witness = compared(sample.vectors * scale, now)
    newest = drawn[np.argsort(-witness, kind="stable")[:SHOWN]]
    nearest = (collection.search_by_vector(vector, Retrieve(slot), limit=1) for vector in newest)
    return DataShift(len(now), discrepancy, chance, tuple(hits[0].id for hits in nearest if hits))


def compared(then: Floats, now: Floats, *, permutations: int = PERMUTATIONS) -> tuple[float, float, Floats]:
    """The squared maximum mean discrepancy of two samples, its p value, and how unlike `then` each row of `now` is.

    The kernel is a mean of Gaussians. Bandwidths follow from both samples together, so that the p value is exact: if
    both come from one distribution, it is at most p with probability p.

    Args:
        then: `[n, dimensions]`, two rows or more.
        now: `[m, dimensions]`, two rows or more.
        permutations: random divisions that are tried.

    Returns:
        Discrepancy, p value, and for each row of `now` its mean kernel with `now` less that with `then`, `[m]`.
    """
    rows, first = np.concatenate([then, now]).astype(np.float32), len(then)
    kernel = _kernel(rows)
    rng, divisions = np.random.default_rng(0), np.zeros((permutations + 1, len(rows)), np.float32)
    divisions[0, :first] = 1
    for division in divisions[1:]:
        division[rng.permutation(len(rows))[:first]] = 1
    found = _discrepancies(kernel, divisions, first)
    # A tie counts as at least as large, also where the sums of equal kernels were rounded differently.
    chance = (1 + np.count_nonzero(found[1:] >= found[0] - 1e-7)) / (permutations + 1)
    others = kernel[first:]
    witness = others[:, first:].sum(axis=1) / (len(now) - 1) - others[:, :first].mean(axis=1)
    return float(found[0]), float(chance), np.asarray(witness, np.float32)


def projected(vectors: Floats) -> Floats:
    """The vectors `[n, dimension]` with at most `DIMENSIONS` numbers each, by a fixed projection."""
    dimension = vectors.shape[1]
    if dimension <= DIMENSIONS:
        return vectors
    # The only generator of NumPy whose numbers stay the same from release to release.
    directions = np.random.RandomState(dimension % 2**32).standard_normal((dimension, DIMENSIONS))
    return np.asarray(vectors @ (directions / np.sqrt(DIMENSIONS)), np.float32)


def rounded(vectors: Floats, scale: float) -> NDArray[np.int8]:
    """The vectors in steps of `scale`. Current ones are rounded like the sample, so that rounding is no shift."""
    return np.asarray(np.clip(np.rint(vectors / scale), -127, 127), np.int8)


def _kernel(rows: Floats) -> Floats:
    """The kernel of all pairs of rows, 0 of a row with itself."""
    squares = np.square(rows).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0)
    median = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    distances /= median or 1.0  # where most rows are the same
    kernel = sum(np.exp(-distances / (2 * bandwidth)) for bandwidth in BANDWIDTHS) / np.float32(len(BANDWIDTHS))
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel, np.float32)


def _discrepancies(kernel: Floats, divisions: Floats, first: int) -> Floats:
    """The discrepancy of each division: a row with 1 for members of the first sample and 0 for the others."""
    second = kernel.shape[0] - first
    of_first = divisions @ kernel.sum(axis=1, dtype=np.float64)
    within = np.einsum("pn,pn->p", divisions @ kernel, divisions, dtype=np.float64)
    between, others = of_first - within, kernel.sum(dtype=np.float64) - 2 * of_first + within
    return np.asarray(
        within / (first * (first - 1)) + others / (second * (second - 1)) - 2 * between / (first * second)
    )


def _maker(collection: Collection, slot: str) -> str:
    """The fingerprint of the encoder that made a slot's vectors."""
    return next((known.fingerprint for known in collection.info().slots if known.name == slot), "")


def _drawn(collection: Collection, slot: str, size: int) -> Floats:
    """At most `size` vectors of random documents; those that are not finite are left out.

    Raises:
        CollectionError: fewer than 200.
    """
    vector = collection.encoders.vector(slot)
    response = collection.client.query_points(
        collection.name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=models.Filter(must=[models.HasVectorCondition(has_vector=vector)]),
        limit=size,
        with_payload=False,
        with_vectors=[vector] if vector else True,  # the unnamed one cannot be asked for by name
    )
    raw: list[Any] = [point.vector for point in response.points]
    rows = [found.get(vector) if isinstance(found, dict) else found for found in raw]
    drawn = np.array([row for row in rows if row is not None and np.isfinite(row).all()], np.float32)
    if len(drawn) < LEAST:
        what = "too few vectors to compare documents by"
        raise CollectionError(what, where=f"slot {slot!r}", got=len(drawn), expected=f"at least {LEAST}")
    return drawn
