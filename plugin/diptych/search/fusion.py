"""The contribution of each slot's candidates to a fused score, by the fusion's formula.

`Linear` without `missing` is computed here, since its constants (lowest, highest, mean, deviation) are known only once
the candidates are; other fusions only on several shards, where Qdrant would fuse each shard alone. For the fusions that
Qdrant computes, `explain` uses the same functions to show the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        scores, missing = np.array([score for _, score in ranking], np.float64), 0.0  # of candidates of other slots
        if isinstance(fusion, Linear) and fusion.missing is not None:
            # Weighted z-scores as Qdrant computes them: DBSF's numbers, which are 0 to 1 for -3 to 3 deviations.
            values, missing = (6 * _deviations(scores) - 3 if ranking else scores), fusion.missing
        elif not ranking:
            values = scores
        elif isinstance(fusion, Rrf):
            values = 1 / (fusion.k + np.arange(1, len(ranking) + 1))
        elif isinstance(fusion, Dbsf):
            values = _deviations(scores)
        elif fusion.normalize == "minmax":
            values = minmax(scores)
        elif (deviation := scores.std()) == 0:
            values = np.ones_like(scores)
        else:
            values = (scores - scores.mean()) / deviation
            missing = float(values.min())
        weight = 1.0 if isinstance(fusion, Dbsf) else fusion.weights.get(slot, 1.0)
        own = dict(zip((point for point, _ in ranking), (weight * values).tolist(), strict=True))
        for point, by_slot in parts.items():
            by_slot[slot] = own.get(point, weight * missing)
    return parts


def fuse(fusion: Fusion, rankings: Mapping[str, Ranking]) -> list[tuple[PointId, float]]:
    """All candidates with their fused scores, best first; equal scores keep the order of the slots' candidates."""
    sums = [(point, sum(parts.values())) for point, parts in contributions(fusion, rankings).items()]
    return sorted(sums, key=lambda pair: -pair[1])


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
