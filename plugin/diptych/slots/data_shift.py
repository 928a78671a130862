"""Data shift: whether today's documents are still like those that a slot's encoder was chosen for.

Once asked for (`diptych doctor --accept-data`), a slot keeps a sample of its vectors in the collection's metadata, and
takes a new one at each cut-over. `data_shift` compares it with current vectors by the maximum mean discrepancy
(Gretton et al., "A Kernel Two-Sample Test", JMLR 2012), by which PaD-TS compares populations of series; the threshold
comes from permutations. docs/research/methods/data_shift.md has figures.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.errors import DiptychError
from diptych.metadata.models import CollectionMetadata, Generation, Layout, Record
from diptych.metadata.payloads import from_payload, id_fields
from diptych.metadata.store import SAMPLE, raw_metadata, update_metadata
from diptych.types import Floats

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

LEAST = 200  # vectors below which no sample is kept
KEPT, TODAY = 256, 1000  # vectors in the sample, and current vectors that are compared with it
DIMENSIONS = 512  # of the sample; longer vectors are projected at random, which keeps their distances roughly
LEVEL, PERMUTATIONS = 0.01, 999
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, in median squared distances
SHOWN = 3  # documents that are named


class VectorSample(Record):
    """A sample of a slot's vectors, taken at some time.

    Args:
        vector: name of the physical vector.
        when: when they were taken, ISO 8601.
        points: documents that the collection had then.
        dimensions: numbers of each vector, after a projection.
        scale: what the stored numbers are multiplied by, above 0.
        vectors: the numbers as signed bytes, in base64.
    """

    vector: str
    when: str
    points: int
    dimensions: int
    scale: float
    vectors: str


@dataclass(frozen=True, slots=True)
class DataShift:
    """A slot's current vectors compared with its sample.

    Args:
        since: when the sample was taken.
        points: documents that the collection had then.
        compared: current vectors that were drawn for the comparison.
        discrepancy: the squared maximum mean discrepancy; unbiased, so it may be below 0; at most about 2.
        chance: share of random divisions of all these vectors that differ at least as much.
        examples: ids of drawn documents that are least like the sample and most like other current ones.
    """

    since: str
    points: int
    compared: int
    discrepancy: float
    chance: float
    examples: tuple[str, ...] = ()

    @property
    def shifted(self) -> bool:
        """Whether they differ by more than chance."""
        return self.chance <= LEVEL


def keep_samples(client: QdrantBase, name: str, metadata: CollectionMetadata, *, renew: bool = False) -> list[str]:
    """Keep a sample of the vectors of each live dense slot: today's documents become those to compare with.

    Args:
        renew: only replace samples of vectors that are no longer live.

    Returns:
        Warnings about slots with too few vectors, or a store that does not allow it.
    """
    dense = {slot: generation for slot, generation in metadata.live.slots.items() if generation.kind == "dense"}
    try:
        stored = {key: raw for key, raw in raw_metadata(client, name).items() if key.startswith(SAMPLE) and raw}
        changes: dict[str, Any] = {key: None for key in stored if key.removeprefix(SAMPLE) not in dense}
        chosen = dense
        if renew:
            old = {slot: generation for slot, generation in dense.items() if f"{SAMPLE}{slot}" in stored}
            chosen = {
                slot: generation for slot, generation in old.items() if _sample_in(stored, slot, generation) is None
            }
        taken = {slot: _taken(client, name, generation) for slot, generation in chosen.items()}
        changes |= {f"{SAMPLE}{slot}": sample for slot, sample in taken.items()}
        if changes:
            update_metadata(client, name, changes)
        few = [slot for slot, sample in taken.items() if sample is None]
        return [f"slot {slot!r} has too few vectors for a sample: {LEAST} are needed" for slot in few]
    except Exception as error:  # the caller's work is complete by now; a restricted key may not change metadata
        what = error.what if isinstance(error, DiptychError) else f"{type(error).__name__}: {error}"[:200]
        return [f"no sample of the vectors could be kept for `diptych doctor` to compare later ones with: {what}"]


def data_shift(client: QdrantBase, name: str, slot: str, generation: Generation, layout: Layout) -> DataShift | None:
    """Compare a dense slot's current vectors with its sample; None if there is no sample."""
    found = _sample_in(raw_metadata(client, name), slot, generation)
    if found is None:
        return None
    sample, then = found
    drawn = _drawn(client, name, generation.vector, TODAY, id_fields(layout))
    if len(drawn) < LEAST:
        return None
    now = rounded(projected(np.stack([vector for _, vector in drawn])), sample.scale) * np.float32(sample.scale)
    discrepancy, chance, witness = compared(then, now)
    newest = np.argsort(-witness, kind="stable")[:SHOWN]
    ids = (from_payload(drawn[row][0].id, drawn[row][0].payload, layout).id for row in newest)
    return DataShift(sample.when, sample.points, len(now), discrepancy, chance, tuple(ids))


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


def _taken(client: QdrantBase, name: str, generation: Generation) -> dict[str, Any] | None:
    """A new sample in the form of the metadata; None if there are too few vectors."""
    points = client.count(name, exact=True).count
    drawn = _drawn(client, name, generation.vector, KEPT, []) if points >= LEAST else []
    if len(drawn) < LEAST:
        return None
    vectors = projected(np.stack([vector for _, vector in drawn]))
    scale = float(np.abs(vectors).max()) / 127 or 1.0
    packed = base64.b64encode(rounded(vectors, scale).tobytes()).decode()
    when = datetime.now(UTC).isoformat(timespec="seconds")
    sample = VectorSample(
        vector=generation.vector, when=when, points=points, dimensions=vectors.shape[1], scale=scale, vectors=packed
    )
    return sample.model_dump(mode="json")


def _sample_in(stored: Mapping[str, Any], slot: str, generation: Generation) -> tuple[VectorSample, Floats] | None:
    """The slot's sample and its vectors; None if there is none, or none that is intact and of this generation."""
    try:
        sample = VectorSample.model_validate(stored.get(f"{SAMPLE}{slot}"))
        numbers = np.frombuffer(base64.b64decode(sample.vectors, validate=True), np.int8)
        vectors = numbers.reshape(-1, sample.dimensions) * np.float32(sample.scale)
    except ValueError:  # pydantic's and NumPy's own
        return None
    intact = (
        len(vectors) >= LEAST and sample.scale > 0 and sample.dimensions == min(generation.dimension or 0, DIMENSIONS)
    )
    return (sample, vectors) if intact and sample.vector == generation.vector else None


def _drawn(
    client: QdrantBase, name: str, vector: str, size: int, payload: list[str]
) -> list[tuple[models.ScoredPoint, Floats]]:
    """At most `size` random points with their vectors; vectors that are not finite are left out."""
    response = client.query_points(
        name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=models.Filter(must=[models.HasVectorCondition(has_vector=vector)]),
        limit=size,
        with_payload=payload or False,
        with_vectors=[vector] if vector else True,  # the unnamed one cannot be asked for by name
    )
    raw: list[tuple[models.ScoredPoint, Any]] = [(point, point.vector) for point in response.points]
    named = [(point, found.get(vector) if isinstance(found, dict) else found) for point, found in raw]
    rows = [(point, np.asarray(found, np.float32)) for point, found in named if found is not None]
    return [(point, row) for point, row in rows if np.isfinite(row).all()]
