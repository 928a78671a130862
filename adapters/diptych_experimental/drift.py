"""Drift maps: search old vectors with a new encoder when the old one is gone and the back-fill is not finished.

`fit` and `best_map` fit a `DriftMap` on vectors of documents that both encoders encoded and measure its `Quality` on
others; `offer` decides whether it is good enough to serve. `Bridge.of` does so for a swap under way and searches.
docs/research/drift.md has figures. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych import Collection
from diptych.encoders import NamedEncoder
from diptych.errors import SwapError
from diptych.protocols import DenseEncoder, Similarity
from diptych.search import Hits, Retrieve
from diptych.types import Floats

MapKind: TypeAlias = Literal["procrustes", "ridge"]
Rows: TypeAlias = NDArray[np.intp]

KINDS: tuple[MapKind, ...] = ("procrustes", "ridge")
PULLS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # weight of the identity, times the mean singular value
STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of ridge, times the mean variance of a new dimension
MINIMUM = 50  # pairs; below, a held-out tenth says nothing
MOST_PAIRS = 20_000  # what the paper fits on; more costs time and, measured, gains nothing
MOST_READ, PAGE = 5000, 500  # pairs that a bridge reads, and those in a request
DEPTH, MOST_ASKED, BLOCK = 10, 500, 256
# The rule of docs/research/drift.md, drawn from tests/benchmarks/compare_drift.py.
PAIRS = 200  # with fewer, the held-out tenth is too small to judge by
LIKENESS = 0.8
GAIN = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class DriftMap:
    """Maps vectors of the new encoder into the old one's space: `x @ weight + bias`.

    Args:
        kind: how it was fitted.
        weight: float32 `[d_new, d_old]`.
        bias: float32 `[d_old]`.
        unit_new: the new space compares by cosine, so rows are made unit length before.
        unit_old: the old space compares by cosine, so rows are made unit length after.
    """

    kind: MapKind
    weight: Floats
    bias: Floats
    unit_new: bool = True
    unit_old: bool = True

    def apply(self, vectors: Any) -> Floats:
        """Vectors `[n, d_new]` as float32 `[n, d_old]`; rows of zeros stay so.

        Raises:
            SwapError: they have another dimension, or are not finite.
        """
        rows = _finite(vectors, "vectors to map", dimension=len(self.weight))
        mapped = (unit(rows) if self.unit_new else rows) @ self.weight + self.bias
        mapped[~rows.any(axis=1)] = 0
        return unit(mapped) if self.unit_old else mapped


@dataclass(frozen=True, slots=True)
class Quality:
    """The measurements of a map.

    The pairs' documents are searched twice: by new vectors, as after a full re-encode, and by mapped ones among the
    old. Held-out documents serve as queries, each without itself, and real queries where some are given.

    Args:
        kind: of the map.
        pairs: documents that both encoders encoded, those the map was fitted on included.
        held_out: pairs that it was not fitted on.
        likeness: mean cosine of held-out mapped vectors and their old ones, about the mean of the old: in spaces whose
            vectors all point one way, plain cosines would flatter.
        kept: share of the old encoder's own top 10 that mapped documents still find: how well it is imitated.
        overlap: share of the top 10 that mapped documents have in common with the full re-encode.
        old_overlap: the same for the old encoder's own vectors: what a perfect imitation of the old encoder would have.
        unmapped_kept, unmapped_overlap: as `kept` and `overlap`, of new vectors that are not mapped; None where
            dimensions differ.
        queries: how many real queries were given.
        query_overlap, unmapped_query_overlap: as `overlap` and `unmapped_overlap`, with these; None without them.
    """

    kind: str
    pairs: int
    held_out: int
    likeness: float
    kept: float
    overlap: float
    old_overlap: float
    unmapped_kept: float | None = None
    unmapped_overlap: float | None = None
    queries: int = 0
    query_overlap: float | None = None
    unmapped_query_overlap: float | None = None

    def __str__(self) -> str:
        rows = [
            f"likeness {self.likeness:.2f}",
            f"of the old encoder's top 10 kept {_beside(self.kept, self.unmapped_kept)}",
            f"in common with a full re-encode {_beside(self.overlap, self.unmapped_overlap)}, "
            f"the old encoder itself {self.old_overlap:.2f}",
        ]
        if self.query_overlap is not None:
            overlap = _beside(self.query_overlap, self.unmapped_query_overlap)
            rows.append(f"the same with {self.queries} real queries {overlap}")
        held_out = f"{self.held_out} of {self.pairs} documents that both encoded"
        return f"Measured of {self.kind} on {held_out}: {'; '.join(rows)}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A map and its quality."""

    map: DriftMap
    quality: Quality


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Row i of `new` and of `old` is one document: float32 `[n, d_new]` and `[n, d_old]`, unit rows for cosine."""

    new: Floats
    old: Floats
    new_similarity: Similarity = "cosine"
    old_similarity: Similarity = "cosine"

    @classmethod
    def of(cls, new: Any, old: Any, new_similarity: Similarity, old_similarity: Similarity) -> Pairs:
        """The pairs, checked and ready to fit.

        Raises:
            SwapError: fewer than 50, other lengths, or vectors that are zero or not finite.
        """
        new_rows, old_rows = _finite(new, "the new vectors"), _finite(old, "the old vectors")
        if len(new_rows) != len(old_rows):
            got = f"{len(new_rows)} new, {len(old_rows)} old"
            raise SwapError("new and old vectors are not pairs", got=got, expected="one of each for every document")
        if len(new_rows) < MINIMUM:
            what, do = "too few pairs for a drift map", "back-fill more documents first"
            raise SwapError(what, got=len(new_rows), expected=f"at least {MINIMUM}", do=do)
        for which, rows in (("new", new_rows), ("old", old_rows)):
            if len(zero := np.flatnonzero(~rows.any(axis=1))):
                what, do = f"some {which} vectors are zero", "leave these documents out of the pairs"
                raise SwapError(what, got=f"{len(zero)} of {len(rows)}, first row {zero[0]}", do=do)
        return cls(
            unit(new_rows) if new_similarity == "cosine" else new_rows,
            unit(old_rows) if old_similarity == "cosine" else old_rows,
            new_similarity,
            old_similarity,
        )

    def at(self, rows: Rows) -> Pairs:
        """A subset of the pairs."""
        return Pairs(self.new[rows], self.old[rows], self.new_similarity, self.old_similarity)


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict on a map.

    Args:
        yes: whether it may serve and improves answers.
        why: for people, with the measured numbers.
        unmapped: the map is good, but the new encoder's queries do as well without it.
    """

    yes: bool
    why: str
    unmapped: bool = False


def fit(
    new: Any,
    old: Any,
    *,
    kind: MapKind = "procrustes",
    new_similarity: Similarity = "cosine",
    old_similarity: Similarity = "cosine",
    queries: Any = None,
    seed: int = 0,
) -> Fitted:
    """Fit a map from the new encoder's space into the old one's, with its quality on held-out pairs.

    Args:
        new, old: vectors of the same documents by both encoders, float32 `[n, d_new]` and `[n, d_old]`.
        kind: `procrustes` or `ridge`.
        new_similarity, old_similarity: similarities of the two spaces.
        queries: new vectors of real queries, for the quality alone.
        seed: decides which at most 20,000 pairs fit (eight tenths), choose a strength, and measure (a tenth each).

    Raises:
        SwapError: fewer than 50 pairs, other lengths, vectors that are zero or not finite, an unknown kind.
    """
    if kind not in KINDS:
        raise SwapError("unknown kind of drift map", got=repr(kind), expected=", ".join(KINDS))
    pairs = Pairs.of(new, old, new_similarity, old_similarity)
    order = np.random.default_rng(seed).permutation(len(pairs.new))[:MOST_PAIRS]
    tenth = max(10, len(order) // 10)
    held_out, tune, train = np.split(order, (tenth, 2 * tenth))
    fitted = (procrustes if kind == "procrustes" else ridge)(pairs.at(train), pairs.at(tune))
    return Fitted(fitted, measure(fitted, pairs, held_out, queries=queries))


def best_map(new: Any, old: Any, **options: Any) -> Fitted:
    """Fit one map of each kind and return the one whose answers are most like those of a full re-encode.

    That is what the back-fill leads to; the kind that imitates the old encoder best is often another, and answers less
    like the new one. Measured by `queries` if given, else by held-out documents. `overlap` is slightly too good, since
    the winner was chosen on the same pairs.

    Args:
        new, old: as in `fit`.
        options: as in `fit`, without `kind`.
    """
    fits = [fit(new, old, kind=kind, **options) for kind in KINDS]
    return max(fits, key=lambda one: (one.quality.query_overlap or 0.0, one.quality.overlap))


def procrustes(train: Pairs, tune: Pairs) -> DriftMap:
    """The rotation and scale that bring the centred new vectors nearest to the centred old ones.

    Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966. With more new
    dimensions than old ones it projects, with fewer it embeds. Where pairs are too few, a pull towards the identity
    decides; `tune` sets its strength. For a child of the old model, or its truncation, the identity is nearly right.
    """
    new, old = train.new - train.new.mean(axis=0), train.old - train.old.mean(axis=0)
    together = new.T @ old
    identity = np.eye(*together.shape) * np.linalg.svd(together, compute_uv=False).mean()
    rotations: list[Floats] = []
    for pull in PULLS:
        left, _, right = np.linalg.svd(together + pull * identity, full_matrices=False)
        turned = new @ (left @ right)
        scale = max(1e-6, float((turned * old).sum() / np.square(turned).sum()))  # never below zero
        rotations.append(np.asarray(scale * (left @ right), np.float32))
    return _best(rotations, train, tune, "procrustes")


def ridge(train: Pairs, tune: Pairs) -> DriftMap:
    """Least squares with a penalty, whose strength is the one of eight that does best on `tune`.

    The penalty is on the difference from Procrustes, so that few pairs give Procrustes and many give least squares.
    """
    start = procrustes(train, tune)
    new = (train.new - train.new.mean(axis=0)).astype(np.float64)
    rest = train.old - train.old.mean(axis=0) - new @ start.weight
    values, vectors = np.linalg.eigh(new.T @ new / len(new))
    values = np.maximum(values, 0)
    turned = vectors.T @ (new.T @ rest / len(new))
    added = (vectors @ (turned / (values + strength * values.mean())[:, None]) for strength in STRENGTHS)
    return _best((start.weight + departure for departure in added), train, tune, "ridge")


def likeness(apply: Callable[[Floats], Floats], pairs: Pairs) -> float:
    """How near mapped vectors are to the old ones: mean cosine, or the share of variance where length counts."""
    mapped = apply(pairs.new)
    if pairs.old_similarity == "cosine":
        return float((mapped * pairs.old).sum(axis=1).mean())
    return 1 - float(np.square(mapped - pairs.old).sum() / np.square(pairs.old - pairs.old.mean(axis=0)).sum())


def measure(fitted: DriftMap, pairs: Pairs, held_out: Rows, *, queries: Any = None) -> Quality:
    """Measure `fitted` on the rows `held_out` of `pairs`, and on new vectors of real `queries` `[n, d_new]`.

    Raises:
        SwapError: the queries are no vectors of the new space.
    """
    asked = held_out[:MOST_ASKED]
    held, some = pairs.at(held_out), pairs.at(asked)
    target, _ = nearest(some.new, pairs.new, DEPTH, similarity=pairs.new_similarity, but=asked)
    neighbours, _ = nearest(some.old, pairs.old, DEPTH, similarity=pairs.old_similarity, but=asked)
    comparable = pairs.new.shape[1] == pairs.old.shape[1]

    def overlap(vectors: Floats, wanted: Rows, but: Rows | None = asked) -> float:
        found, _ = nearest(vectors, pairs.old, DEPTH, similarity=pairs.old_similarity, but=but)
        return float(np.mean(shared(found, wanted)))

    of_queries: dict[str, Any] = {}
    if queries is not None and len(queries):
        vectors = _finite(queries, "the queries", dimension=pairs.new.shape[1])[:MOST_ASKED]
        wanted, _ = nearest(vectors, pairs.new, DEPTH, similarity=pairs.new_similarity)
        of_queries = {
            "queries": len(vectors),
            "query_overlap": overlap(fitted.apply(vectors), wanted, None),
            "unmapped_query_overlap": overlap(vectors, wanted, None) if comparable else None,
        }
    mapped, mean = fitted.apply(some.new), pairs.old.mean(axis=0)
    return Quality(
        kind=fitted.kind,
        pairs=len(pairs.new),
        held_out=len(held_out),
        likeness=float((unit(fitted.apply(held.new) - mean) * unit(held.old - mean)).sum(axis=1).mean()),
        kept=overlap(mapped, neighbours),
        overlap=overlap(mapped, target),
        old_overlap=overlap(some.old, target),
        unmapped_kept=overlap(some.new, neighbours) if comparable else None,
        unmapped_overlap=overlap(some.new, target) if comparable else None,
        **of_queries,
    )


def offer(quality: Quality) -> Offer:
    """The verdict on a map: it may serve with at least 200 pairs and a held-out likeness of at least .8.

    Mapping improves answers if real queries, or else held-out documents, find better neighbours with it than without.
    """
    if quality.pairs < PAIRS:
        return Offer(False, f"{quality.pairs} pairs are too few to judge a map by: back-fill {PAIRS}. {quality}")
    if quality.likeness < LIKENESS:
        return Offer(False, f"the map does not come near enough to the old vectors (asked: {LIKENESS:.2f}). {quality}")
    gains = quality.unmapped_kept is None or quality.kept >= quality.unmapped_kept + GAIN
    if quality.query_overlap is not None and quality.unmapped_query_overlap is not None:
        gains = quality.query_overlap > quality.unmapped_query_overlap
    if not gains:
        return Offer(False, f"the new encoder's queries do as well without a map. {quality}", unmapped=True)
    return Offer(True, f"the map comes near enough to the old vectors (asked: {LIKENESS:.2f}). {quality}")


@dataclass(frozen=True, slots=True)
class Bridge:
    """Searches a slot's old vectors through a drift map, while a swap fills the new ones.

    Args:
        collection, slot: whose vectors are searched.
        encoder: the new one.
        fitted: the map.
    """

    collection: Collection
    slot: str
    encoder: DenseEncoder | NamedEncoder
    fitted: Fitted

    @classmethod
    def of(
        cls, collection: Collection, slot: str, encoder: DenseEncoder | NamedEncoder, queries: Sequence[str] = ()
    ) -> Bridge:
        """A bridge fitted on at most 5,000 documents that have both vectors, and measured by `queries` if given.

        Raises:
            SwapError: no swap fills the slot, too few documents are filled, or the map is not good enough to serve.
        """
        where = f"slot {slot!r}"
        vectors = {vector.role: vector.vector for vector in collection.status().vectors if vector.slot == slot}
        if not {"building", "live"} <= vectors.keys():
            do = "begin one: diptych apply --no-cut-over"
            raise SwapError("no swap is filling other vectors of this slot", where=where, do=do)
        new, old = _filled(collection, vectors["building"], vectors["live"])
        fitted = best_map(
            new,
            old,
            new_similarity=encoder.similarity or "cosine",
            old_similarity=collection.encoders[slot].similarity or "cosine",
            queries=np.asarray(encoder.encode_query(list(queries)), np.float32) if queries else None,
        )
        verdict = offer(fitted.quality)
        if not (verdict.yes or verdict.unmapped):
            raise SwapError("the drift map is not good enough to serve", where=where, got=verdict.why)
        return cls(collection, slot, encoder, fitted)

    def search(self, query: str, limit: int = 10) -> Hits:
        """The `limit` best documents by the old vectors."""
        vectors = np.asarray(self.encoder.encode_query([query]), np.float32)
        return self.collection.search_by_vector(self.fitted.map.apply(vectors)[0], Retrieve(self.slot), limit=limit)


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def nearest(
    queries: Floats, documents: Floats, k: int, *, similarity: Similarity, but: Rows | None = None
) -> tuple[Rows, Floats]:
    """Rows of the `k` nearest documents of each query, best first, and their scores (higher is nearer): `[n, k]`.

    Args:
        queries, documents: float32 `[n, d]` and `[m, d]`.
        k: at most m are given.
        similarity: what nearness is; lengths do not matter for cosine.
        but: for each query the row of a document that is left out, such as the query itself; then at most m - 1.
    """
    k = min(k, len(documents) - (but is not None))
    if similarity == "cosine":
        queries, documents = unit(queries), unit(documents)
    rows_found, values = np.zeros((len(queries), k), np.intp), np.zeros((len(queries), k), np.float32)
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        scores = queries[block] @ documents.T
        if similarity == "euclidean":
            scores = 2 * scores - np.square(documents).sum(axis=1)
        if but is not None:
            scores[np.arange(len(scores)), but[block]] = -np.inf
        rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
        rows_found[block] = np.take_along_axis(rows, order, axis=1)
        values[block] = np.take_along_axis(scores, rows_found[block], axis=1)
    return rows_found, values


def shared(one: Rows, other: Rows) -> Floats:
    """For each query the share of rows that both answers contain: float32 `[n]`."""
    both = [len(np.intersect1d(a, b)) for a, b in zip(one, other, strict=True)]
    return np.asarray(both, np.float32) / np.float32(one.shape[1])


def _finite(vectors: Any, what: str, *, dimension: int | None = None) -> Floats:
    """The vectors as float32 `[n, d]`, all finite.

    Raises:
        SwapError: they are no table of finite numbers, or have another dimension.
    """
    rows = np.asarray(vectors, np.float32)
    if rows.ndim != 2 or (dimension is not None and rows.shape[1] != dimension):
        raise SwapError(f"{what} have another shape", got=rows.shape, expected=f"[n, {dimension or 'dimension'}]")
    if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise SwapError(f"{what} hold numbers that are not finite", got=f"{len(bad)} rows, first row {bad[0]}")
    return rows


def _best(weights: Iterable[Floats], train: Pairs, tune: Pairs, kind: MapKind) -> DriftMap:
    """Of the maps with these weights, each of which takes the mean of the new vectors to that of the old, the best."""
    new_mean, old_mean = train.new.mean(axis=0), train.old.mean(axis=0)
    unit_new, unit_old = train.new_similarity == "cosine", train.old_similarity == "cosine"
    maps = (
        DriftMap(kind, np.asarray(weight, np.float32), np.asarray(old_mean - new_mean @ weight), unit_new, unit_old)
        for weight in weights
    )
    return max(maps, key=lambda candidate: likeness(candidate.apply, tune))


def _beside(mapped: float, unmapped: float | None) -> str:
    return f"{mapped:.2f}" if unmapped is None else f"{mapped:.2f} (without a map {unmapped:.2f})"


def _filled(collection: Collection, *vectors: str) -> list[list[Any]]:
    """The vectors of these names, each `[n, dimension]`, of random points that have all of them, none of them zero."""
    both = models.Filter(must=[models.HasVectorCondition(has_vector=vector) for vector in vectors])
    sample = models.SampleQuery(sample=models.Sample.RANDOM)
    client, name = collection.client, collection.name
    points = client.query_points(name, query=sample, query_filter=both, limit=MOST_READ, with_payload=False).points
    pairs: list[list[Any]] = []
    for start in range(0, len(points), PAGE):
        ids = [point.id for point in points[start : start + PAGE]]
        for record in client.retrieve(name, ids, with_payload=False, with_vectors=list(vectors)):
            found: Any = record.vector or {}
            if all(np.any(found.get(vector, ())) for vector in vectors):
                pairs.append([found[vector] for vector in vectors])
    return [[pair[side] for pair in pairs] for side in range(len(vectors))]
