"""`fit` and `best_map`: from pairs of vectors to a map with its measured quality.

The maps are linear: orthogonal Procrustes and ridge regression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.errors import SwapError
from diptych.protocols import Similarity
from diptych.slots.drift_maps import Map, MapKind
from diptych.swap.drift.pairs import Pairs, Split, checked_pairs, split
from diptych.swap.drift.quality import Quality, measure
from diptych.types import Floats

# Releases up to 0.4.0 fitted an `mlp` too. It cost most and, measured, gained nothing: docs/decisions.md. Those that
# collections keep are still read.
KINDS: tuple[MapKind, ...] = ("procrustes", "ridge")
PULLS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # weight of the identity, times the mean singular value
STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of ridge, times the mean variance of a new dimension


@dataclass(frozen=True, slots=True)
class Fitted:
    """A map and its quality; both are stored in the collection's metadata so that `status` can show them."""

    map: Map
    quality: Quality

    def to_json(self) -> dict[str, Any]:
        """JSON values; `load` reads the map back and ignores the rest."""
        return {**self.map.to_json(), "quality": self.quality.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Fitted:
        """From what `to_json` gave.

        Raises:
            SwapError: another format, or damaged.
        """
        return cls(Map.from_json(raw), Quality.from_json(raw.get("quality") or {}))


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
        seed: decides the split.

    Raises:
        SwapError: fewer than 50 pairs, other lengths, vectors that are zero or not finite, an unknown kind.
    """
    pairs = checked_pairs(new, old, new_similarity=new_similarity, old_similarity=old_similarity)
    parts = split(len(pairs), seed=seed)
    return _measured(_fitted(kind, pairs, parts), pairs, parts, queries)


def best_map(
    new: Any,
    old: Any,
    *,
    kinds: Sequence[MapKind] = KINDS,
    new_similarity: Similarity = "cosine",
    old_similarity: Similarity = "cosine",
    queries: Any = None,
    seed: int = 0,
) -> Fitted:
    """Fit one map of each kind and return the one whose answers are most like those of a full re-encode.

    That is what the back-fill leads to; the kind that imitates the old encoder best is often another, and answers less
    like the new one. Measured by `queries` if given, else by held-out documents. `overlap` is slightly too good, since
    the winner was chosen on the same pairs.

    Raises:
        SwapError: as `fit`.
    """
    pairs = checked_pairs(new, old, new_similarity=new_similarity, old_similarity=old_similarity)
    parts = split(len(pairs), seed=seed)
    fits = [_measured(_fitted(kind, pairs, parts), pairs, parts, queries) for kind in kinds]
    return max(fits, key=lambda one: (one.quality.query_overlap or 0.0, one.quality.overlap))


def _fitted(kind: MapKind, pairs: Pairs, parts: Split) -> Map:
    train, tune = pairs.of(parts.train), pairs.of(parts.tune)
    if kind == "procrustes":
        return procrustes(train, tune).stored()
    if kind == "ridge":
        return ridge(train, tune).stored()
    raise SwapError("unknown kind of drift map", got=repr(kind), expected=", ".join(KINDS))


def _measured(chosen: Map, pairs: Pairs, parts: Split, queries: Any) -> Fitted:
    return Fitted(chosen, measure(chosen, pairs, parts.held_out, queries=queries))


def procrustes(train: Pairs, tune: Pairs) -> Map:
    """The rotation and scale that bring the centred new vectors nearest to the centred old ones.

    Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966. With more new
    dimensions than old ones it projects, with fewer it embeds. Where pairs are too few, a pull towards the identity
    decides; `tune` sets its strength. For a child of the old model, or its truncation, the identity is nearly right.
    """
    new_mean, old_mean = train.new.mean(axis=0), train.old.mean(axis=0)
    new, old = train.new - new_mean, train.old - old_mean
    together = new.T @ old
    identity = np.eye(*together.shape) * np.linalg.svd(together, compute_uv=False).mean()
    return _best(_about(_rotation(new, old, together + pull * identity), train) for pull in PULLS)(tune)


def ridge(train: Pairs, tune: Pairs) -> Map:
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
    return _best(_about(start.weight + departure, train, "ridge") for departure in added)(tune)


def likeness(apply: Callable[[Floats], Floats], pairs: Pairs) -> float:
    """How near mapped vectors are to the old ones: mean cosine, or the share of variance where length counts."""
    mapped = apply(pairs.new)
    if pairs.old_similarity == "cosine":
        return float((mapped * pairs.old).sum(axis=1).mean())
    return 1 - float(np.square(mapped - pairs.old).sum() / np.square(pairs.old - pairs.old.mean(axis=0)).sum())


def _rotation(new: Floats, old: Floats, together: Floats) -> Floats:
    """The best rotation, and its scale, never below zero."""
    left, _, right = np.linalg.svd(together, full_matrices=False)
    turned = new @ (left @ right)
    scale = max(1e-6, float((turned * old).sum() / np.square(turned).sum()))
    return np.asarray(scale * (left @ right), np.float32)


def _about(weight: Floats, train: Pairs, kind: MapKind = "procrustes") -> Map:
    """The map that takes the mean of the new vectors to that of the old."""
    bias = train.old.mean(axis=0) - train.new.mean(axis=0) @ weight
    unit_new, unit_old = train.new_similarity == "cosine", train.old_similarity == "cosine"
    return Map(kind, np.asarray(weight, np.float32), np.asarray(bias, np.float32), None, unit_new, unit_old)


def _best(candidates: Iterable[Map]) -> Callable[[Pairs], Map]:
    return lambda tune: max(candidates, key=lambda candidate: likeness(candidate.apply, tune))
