"""Linear maps: orthogonal Procrustes and ridge regression, numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from diptych.slots.drift_maps import Map, MapKind
from diptych.swap.drift.pairs import Pairs
from diptych.types import Floats

ANCHORS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # weight of the identity, times the mean singular value
STRENGTHS = tuple(10.0**power for power in range(-4, 4))  # of ridge, times the mean variance of a new dimension


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
    return _best(_about(_rotation(new, old, together + pull * identity), train) for pull in ANCHORS)(tune)


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
