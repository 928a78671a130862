"""`Legs`: the candidates of every slot for judged queries as arrays, so that any fusion of them is arithmetic."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]
Candidates: TypeAlias = Sequence[tuple[Hashable, float]]  # best first, higher is better
Normalization: TypeAlias = Literal["rrf", "dbsf", "minmax", "zscore"]


@dataclass(frozen=True, slots=True)
class Legs:
    """What each slot found for each of n queries, over the at most `width` documents that any slot found.

    Args:
        slots: their names.
        scores: `[n, slots, width]`, NaN where the slot did not find the document.
        ranks: `[n, slots, width]` from 1, 0 where it did not.
        gains: `[n, width]`, the grades of the documents, 0 where not judged.
        ideal: `[n]`, the DCG of the best ranking of all judged documents.
        cutoff: k of nDCG@k.
    """

    slots: tuple[str, ...]
    scores: Doubles
    ranks: NDArray[np.int64]
    gains: Doubles
    ideal: Doubles
    cutoff: int = 10

    @classmethod
    def of(
        cls,
        candidates: Mapping[str, Sequence[Candidates]],
        judgements: Sequence[Mapping[str, int]],
        *,
        cutoff: int = 10,
    ) -> Legs:
        """Arrays from each slot's candidates of each query, and the grades of each query's documents."""
        slots, count = tuple(candidates), len(judgements)
        pools = pools_of(candidates)
        width = max((len(pool) for pool in pools), default=0) or 1
        scores = np.full((count, len(slots), width), np.nan)
        ranks, gains = np.zeros(scores.shape, np.int64), np.zeros((count, width))
        for n, pool in enumerate(pools):
            places = {document: place for place, document in enumerate(pool)}
            gains[n, : len(pool)] = [max(0, judgements[n].get(str(document), 0)) for document in pool]
            for s, slot in enumerate(slots):
                places_in_pool = [places[document] for document, _ in candidates[slot][n]]
                scores[n, s, places_in_pool] = [score for _, score in candidates[slot][n]]
                ranks[n, s, places_in_pool] = np.arange(1, len(places_in_pool) + 1)
        return cls(slots, scores, ranks, gains, _ideal(judgements, cutoff), cutoff)

    def __len__(self) -> int:
        return len(self.ideal)

    def cut(self, depth: int) -> Legs:
        """As if each slot had passed on only its first `depth` candidates."""
        inside = (self.ranks > 0) & (self.ranks <= depth)
        return replace(self, scores=np.where(inside, self.scores, np.nan), ranks=np.where(inside, self.ranks, 0))

    def of_queries(self, chosen: NDArray[np.int64]) -> Legs:
        """The same for some of the queries."""
        fields = {name: getattr(self, name)[chosen] for name in ("scores", "ranks", "gains", "ideal")}
        return replace(self, **fields)

    def of_slots(self, chosen: Sequence[str]) -> Legs:
        """The same for some of the slots."""
        places = [self.slots.index(slot) for slot in chosen]
        return replace(self, slots=tuple(chosen), scores=self.scores[:, places], ranks=self.ranks[:, places])

    def parts(self, kind: Normalization, *, k: int = 60, missing: float | None = None) -> Doubles:
        """Each slot's unweighted part of a fused score, `[n, slots, width]`; 0 for slots that found nothing.

        Args:
            kind: how the parts are made comparable, as in `diptych.search.fusion`.
            k: of RRF.
            missing: of z-scores, what a document counts that the slot did not find; None is its lowest candidate's.
        """
        is_candidate = self.ranks > 0
        if kind == "rrf":
            return np.where(is_candidate, 1.0 / (k + self.ranks), 0.0)
        silent = ~is_candidate.any(axis=2, keepdims=True)
        if missing is not None:
            return np.where(silent, 0.0, np.where(is_candidate, 6 * _dbsf(self.scores, is_candidate) - 3, missing))
        parts = _NORMALISERS[kind](self.scores, is_candidate)
        if kind == "zscore":
            lowest = np.min(np.where(is_candidate, parts, np.inf), axis=2, keepdims=True)
            return np.where(silent, 0.0, np.where(is_candidate, parts, lowest))
        return np.where(is_candidate, parts, 0.0)

    def values(self, fused: Doubles) -> Doubles:
        """nDCG@k of each query, `[n]`, with documents ordered by `fused`, `[n, width]`; minus infinity is no hit."""
        somewhere = (self.ranks > 0).any(axis=1) & (fused > -np.inf)
        ordered = np.argsort(np.where(somewhere, -fused, np.inf), axis=1, kind="stable")[:, : self.cutoff]
        gains = np.take_along_axis(np.where(somewhere, self.gains, 0.0), ordered, axis=1)
        dcg = gains @ _discounts(gains.shape[1])
        return np.divide(dcg, self.ideal, out=np.zeros_like(dcg), where=self.ideal > 0)

    def alone(self, slot: str) -> Doubles:
        """nDCG@k of each query by one slot."""
        ranks = self.ranks[:, self.slots.index(slot)]
        return self.values(np.where(ranks > 0, -ranks, -np.inf))


def pools_of(candidates: Mapping[str, Sequence[Candidates]]) -> list[list[Hashable]]:
    """The documents that any slot found for each query; the greatest id first, as trec_eval orders equal scores."""
    together = zip(*candidates.values(), strict=True)
    return [
        sorted({document for ranking in lists for document, _ in ranking}, key=str, reverse=True) for lists in together
    ]


def _ideal(judgements: Sequence[Mapping[str, int]], cutoff: int) -> Doubles:
    best = [sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:cutoff] for grades in judgements]
    return np.array([float(np.dot(grades, _discounts(len(grades)))) for grades in best])


def _discounts(count: int) -> Doubles:
    return np.asarray(1.0 / np.log2(np.arange(2, count + 2)))


def _spread(scores: Doubles, is_candidate: NDArray[np.bool_], degrees: int) -> tuple[Doubles, Doubles]:
    """Mean and deviation of what each slot found, `[n, slots, 1]`; `degrees` are subtracted from the count."""
    count = is_candidate.sum(axis=2, keepdims=True)
    mean = np.where(is_candidate, scores, 0.0).sum(axis=2, keepdims=True) / np.maximum(count, 1)
    squares = np.where(is_candidate, scores - mean, 0.0) ** 2
    return mean, np.sqrt(squares.sum(axis=2, keepdims=True) / np.maximum(count - degrees, 1))


def _minmax(scores: Doubles, is_candidate: NDArray[np.bool_]) -> Doubles:
    low = np.min(np.where(is_candidate, scores, np.inf), axis=2, keepdims=True)
    high = np.max(np.where(is_candidate, scores, -np.inf), axis=2, keepdims=True)
    width = np.where(high > low, high - low, 1.0)
    return np.where(is_candidate, np.where(high > low, (scores - low) / width, 1.0), 0.0)


def _zscore(scores: Doubles, is_candidate: NDArray[np.bool_]) -> Doubles:
    mean, deviation = _spread(scores, is_candidate, 0)
    return np.where(deviation > 0, (scores - mean) / np.where(deviation > 0, deviation, 1.0), 1.0)


def _dbsf(scores: Doubles, is_candidate: NDArray[np.bool_]) -> Doubles:
    mean, deviation = _spread(scores, is_candidate, 1)
    return np.where(deviation > 0, (scores - mean) / (6 * np.where(deviation > 0, deviation, 1.0)) + 0.5, 0.5)


_NORMALISERS = {"minmax": _minmax, "zscore": _zscore, "dbsf": _dbsf}
