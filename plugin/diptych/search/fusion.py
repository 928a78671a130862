"""The contribution of each slot's candidates to a fused score, by the fusion's formula.

`Linear` without `missing` is computed here, since its constants (lowest, highest, mean, deviation) are known only once
the candidates are; other fusions only on several shards, where Qdrant would fuse each shard alone. For the fusions that
Qdrant computes, `explain` uses the same functions to show the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from qdrant_client import models

from diptych.config.stages import Dbsf, Fusion, Linear, Rrf

PointId: TypeAlias = models.ExtendedPointId
Ranking: TypeAlias = Sequence[tuple[PointId, float]]  # best first, higher is better


def contributions(fusion: Fusion, rankings: Mapping[str, Ranking]) -> dict[PointId, dict[str, float]]:
    """For each candidate of any slot, what each slot adds to its fused score."""
    points = dict.fromkeys(point for ranking in rankings.values() for point, _ in ranking)
    parts: dict[PointId, dict[str, float]] = {point: {} for point in points}
    for slot, ranking in rankings.items():
        values, missing = _values(fusion, slot, ranking)
        for point, by_slot in parts.items():
            by_slot[slot] = values.get(point, missing)
    return parts


def fuse(fusion: Fusion, rankings: Mapping[str, Ranking]) -> list[tuple[PointId, float]]:
    """All candidates with their fused scores, best first; equal scores keep the order of the slots' candidates."""
    sums = [(point, sum(parts.values())) for point, parts in contributions(fusion, rankings).items()]
    return sorted(sums, key=lambda pair: -pair[1])


def _values(fusion: Fusion, slot: str, ranking: Ranking) -> tuple[dict[PointId, float], float]:
    """The slot's value for each of its candidates, and for the candidates of other slots."""
    if isinstance(fusion, Linear) and fusion.missing is not None:
        return _fixed(fusion.missing, fusion.weights.get(slot, 1.0), ranking)
    if not ranking:
        return {}, 0.0
    if isinstance(fusion, Rrf):
        weight = fusion.weights.get(slot, 1.0)
        return {point: weight / (fusion.k + rank) for rank, (point, _) in enumerate(ranking, 1)}, 0.0
    points = [point for point, _ in ranking]
    scores = np.array([score for _, score in ranking], np.float64)
    if isinstance(fusion, Dbsf):
        return dict(zip(points, _deviations(scores).tolist(), strict=True)), 0.0
    weight = fusion.weights.get(slot, 1.0)
    normalised, missing = _NORMALISERS[fusion.normalize](scores)
    return dict(zip(points, (weight * normalised).tolist(), strict=True)), weight * missing


def _fixed(missing: float, weight: float, ranking: Ranking) -> tuple[dict[PointId, float], float]:
    """Weighted z-scores as Qdrant computes them: DBSF's numbers, which are 0 to 1 for -3 to 3 deviations."""
    scores = np.array([score for _, score in ranking], np.float64)
    values = weight * (6 * _deviations(scores) - 3) if ranking else scores
    return dict(zip([point for point, _ in ranking], values.tolist(), strict=True)), weight * missing


def _deviations(scores: np.ndarray) -> np.ndarray:
    """Scores scaled from mean - 3 deviations = 0 to mean + 3 deviations = 1, as in Qdrant; .5 if all are equal."""
    deviation = scores.std(ddof=1) if len(scores) > 1 else 0.0
    if deviation == 0:
        return np.full(len(scores), 0.5)
    return np.asarray((scores - scores.mean()) / (6 * deviation) + 0.5)


def minmax(scores: np.ndarray) -> np.ndarray:
    """Scores `[n]` with the lowest moved to 0 and the highest to 1; all 1 where they are equal."""
    if not len(scores) or scores.max() == scores.min():
        return np.ones_like(scores)
    return np.asarray((scores - scores.min()) / (scores.max() - scores.min()))


def mixed(scores: np.ndarray, before: np.ndarray, weight: float) -> np.ndarray:
    """These scores and those before as a weighted mean `[n]`, each scaled from 0 to 1; equal ones count as 1."""
    return np.asarray(weight * minmax(scores) + (1 - weight) * minmax(before))


def _minmax(scores: np.ndarray) -> tuple[np.ndarray, float]:
    return minmax(scores), 0.0


def _zscore(scores: np.ndarray) -> tuple[np.ndarray, float]:
    deviation = scores.std()
    if deviation == 0:
        return np.ones_like(scores), 0.0
    normalised = (scores - scores.mean()) / deviation
    return normalised, float(normalised.min())


_NORMALISERS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, float]]] = {"minmax": _minmax, "zscore": _zscore}
