"""`Trial`: a way to search that `tune search` tries, and the value of each for each query, from `Legs` alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import le
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from diptych.config import SearchParams
from diptych.evaluate import interval
from diptych.search import Dbsf, Fusion, Linear, Pipeline, Rerank, Rescore, Retrieve, Rrf, search_params

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
from collections.abc import Hashable
from typing import Literal, TypeAlias

Doubles: TypeAlias = NDArray[np.float64]
Candidates: TypeAlias = Sequence[tuple[Hashable, float]]  # best first, higher is better
Normalization: TypeAlias = Literal["rrf", "dbsf", "minmax", "zscore"]

R = TypeVar("R", bound="DataclassInstance")
FOLDS, ROUNDS = 5, 4
CONFIDENCE = 0.95  # of intervals of gains
LEAST = 10  # queries below which nothing is tuned
PRESENT, SINGLE = "the present pipeline", "the best single slot"

KS = (5, 20, 60)  # of RRF
MISSING = (-2.5, -1.0)  # deviations that a document counts where a slot did not find it
SHARES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)  # of the first of two slots; .5 is no weight
STEPS = 4  # shares of three slots and more are in quarters
RESCORED = (20, 50)
RERANKED = (10, 20)  # candidates, beside the config's number, which is the largest
INTERPOLATED = (0.3, 0.5, 0.7, 1.0)  # weights of a later stage's score


@dataclass(frozen=True, slots=True)
class Trial:
    """A pipeline to try.

    Args:
        slots: that are retrieved from.
        fusion: None for one slot.
        rescore: by another slot.
        depth: candidates of each slot.
        rerank: the reranker after that.
        params: of the approximate search; None are the config's.
    """

    slots: tuple[str, ...]
    fusion: Fusion | None = None
    rescore: Rescore | None = None
    depth: int = 100
    rerank: Rerank | None = None
    params: SearchParams | None = None

    @classmethod
    def of(cls, pipeline: Pipeline) -> Trial:
        """The trial of a given pipeline; of a cascade it has the first reranker."""
        depth = max(branch.candidates for branch in pipeline.retrieve)
        slots = tuple(branch.slot for branch in pipeline.retrieve)
        return cls(slots, pipeline.fuse, pipeline.rescore, depth, next(iter(pipeline.rerank), None))

    @property
    def complexity(self) -> tuple[int, int, int]:
        """Slots and stages, weights and parameters, candidates read: of equally good trials the least is taken."""
        later = [stage for stage in (self.rescore, self.rerank) if stage is not None]
        numbers = len(self._weights) + sum(stage.weight < 1 for stage in later) + (self.params is not None)
        stages = len(self.slots) + (2 if self.rescore else 0) + (3 if self.rerank else 0)
        return (stages, numbers, self.depth + sum(stage.candidates for stage in later))

    @property
    def is_single(self) -> bool:
        """Whether it is one slot without later stages."""
        return len(self.slots) == 1 and self.rescore is None and self.rerank is None

    @property
    def is_plain(self) -> bool:
        """Whether it has no weights of slots; rescoring and parameters are tried only on such trials."""
        return not self._weights

    @property
    def _weights(self) -> Mapping[str, float]:
        return getattr(self.fusion, "weights", {}) if self.fusion else {}

    def pipeline(self, params: SearchParams | None = None) -> Pipeline:
        """The pipeline of this trial; `params` are the config's."""
        chosen = search_params(self.params or params or SearchParams())
        pipeline = Pipeline(tuple(Retrieve(slot, self.depth, params=chosen) for slot in self.slots))
        for stage in (self.fusion, self.rescore, self.rerank):
            pipeline = pipeline if stage is None else pipeline >> stage
        return pipeline


@dataclass(slots=True)
class Values:
    """The nDCG of trials, each computed once.

    Args:
        legs: what every slot found.
        late: by slot that can rescore, its scores `[n, width]` of all candidates, NaN where it has none.
        rerankers: by `stage_key`, the reranker's scores `[n, width]`, NaN where it has none.
        variants: what slots found with other parameters of the approximate search.
    """

    legs: Legs
    late: Mapping[str, Doubles] = field(default_factory=dict)
    rerankers: Mapping[str, Doubles] = field(default_factory=dict)
    variants: Mapping[SearchParams, Legs] = field(default_factory=dict)
    _parts: dict[object, Doubles] = field(default_factory=dict)

    def of(self, trial: Trial) -> Doubles:
        """The value of each query, `[n]`."""
        legs = (self.legs if trial.params is None else self.variants[trial.params]).cut(trial.depth)
        if trial.is_single:
            return legs.alone(trial.slots[0])
        return self._among(legs, trial.slots).values(self._ordered(trial, legs))

    def first(self, trials: Sequence[Trial], count: int) -> NDArray[np.bool_]:
        """Whether a document is among the first `count` of any of these trials, `[n, width]`: what rerankers read."""
        reads = np.zeros(self.legs.gains.shape, np.bool_)
        for trial in trials:
            reads |= _best(self._ordered(trial, self.legs.cut(trial.depth)), count)
        return reads

    def _ordered(self, trial: Trial, legs: Legs) -> Doubles:
        """The scores by which the trial orders documents, `[n, width]`; minus infinity means no hit."""
        scores = self._fused(trial, legs)
        if trial.rescore is not None:
            scores = reordered(scores, self.late[trial.rescore.slot], trial.rescore)
        return (
            scores if trial.rerank is None else reordered(scores, self.rerankers[stage_key(trial.rerank)], trial.rerank)
        )

    def _among(self, legs: Legs, slots: Sequence[str]) -> Legs:
        return legs if tuple(slots) == legs.slots else legs.of_slots(slots)

    def _fused(self, trial: Trial, legs: Legs) -> Doubles:
        chosen = self._among(legs, trial.slots)
        is_candidate = (chosen.ranks > 0).any(axis=1)
        if trial.fusion is None:
            return np.where(is_candidate, chosen.scores[:, 0], -np.inf)
        key = (trial.slots, trial.depth, _kind(trial.fusion), trial.params)
        if key not in self._parts:
            self._parts[key] = parts_of(trial.fusion, chosen)
        weights = getattr(trial.fusion, "weights", {})
        weighed = np.array([weights.get(slot, 1.0) for slot in trial.slots])
        return np.where(is_candidate, np.einsum("nsw,s->nw", self._parts[key], weighed), -np.inf)


def parts_of(fusion: Fusion, legs: Legs) -> Doubles:
    """The unweighted part of each slot in a fused score, `[n, slots, width]`."""
    if isinstance(fusion, Rrf):
        return legs.parts("rrf", k=fusion.k)
    if isinstance(fusion, Dbsf):
        return legs.parts("dbsf")
    return legs.parts(fusion.normalize, missing=fusion.missing)


def reordered(before: Doubles, scores: Doubles, stage: Rescore | Rerank) -> Doubles:
    """The best of each query by the stage's scores, or weighed as `diptych.search.fusion.mixed` does.

    The others, and those without a score, are left out.
    """
    reads = _best(before, stage.candidates) & ~np.isnan(scores)
    if stage.weight < 1:
        scores = stage.weight * _scaled(scores, reads) + (1 - stage.weight) * _scaled(before, reads)
    return np.where(reads, np.nan_to_num(scores), -np.inf)


def stage_key(stage: Rerank) -> str:
    """A key that differs for rerankers with different options; it starts with the name."""
    return f"{stage.label} {sorted(stage.options.items(), key=str)!r}"


def _best(scores: Doubles, reads: int) -> NDArray[np.bool_]:
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray((places < reads) & (scores > -np.inf))


def _scaled(scores: Doubles, reads: NDArray[np.bool_]) -> Doubles:
    low = np.min(np.where(reads, scores, np.inf), axis=1, keepdims=True, initial=np.inf)
    high = np.max(np.where(reads, scores, -np.inf), axis=1, keepdims=True, initial=-np.inf)
    flat = high <= low
    spread = np.where(flat, 1.0, high - low)
    return np.where(reads & ~flat, (np.where(reads, scores, 0.0) - np.where(flat, 0.0, low)) / spread, 1.0)


def trials(
    slots: Sequence[str],
    rescorers: Sequence[str] = (),
    *,
    depths: Sequence[int] = (100,),
    rerankers: Sequence[Rerank] = (),
    params: Sequence[SearchParams] = (),
) -> list[Trial]:
    """Each slot alone; fusions of all slots, and of all but one; slots and plain fusions with later stages, parameters.

    Args:
        slots: to retrieve from.
        rescorers: slots that can rescore.
        depths: candidates of each slot.
        rerankers: stages of the config, each tried after the slots and fusions that `bases_of` names.
        params: of the approximate search, tried with each slot alone and the plain fusions of all slots.
    """
    tried = [Trial((slot,), depth=max(depths)) for slot in slots]
    tried += _rescored(tried, rescorers)
    groups = [tuple(slots)] if len(slots) > 1 else []
    if len(slots) > 2:
        groups += [tuple(s for s in slots if s != out) for out in slots]
    for group, depth in itertools.product(groups, depths):
        fused = [Trial(group, fusion, depth=depth) for fusion in fusions(group)]
        tried += fused
        tried += _rescored([trial for trial in fused if trial.is_plain], rescorers)
    bases = bases_of(tried)
    whole = [t for t in bases if t.is_plain and t.rescore is None and len(t.slots) in (1, len(slots))]
    tried += [replace(trial, params=settings) for settings, trial in itertools.product(params, whole)]
    reranked = [
        replace(base, rerank=variant)
        for stage in rerankers
        for base in bases
        for variant in reranker_stages(stage)
        if base.is_plain or variant.candidates == stage.candidates  # weights are tried with all candidates alone
    ]
    return [*tried, *reranked]


def bases_of(tried: Sequence[Trial]) -> list[Trial]:
    """The trials that rerankers are tried after: those with most candidates and without weights of rescoring."""
    depth = max(trial.depth for trial in tried)
    return [trial for trial in tried if trial.depth == depth and (trial.rescore is None or trial.rescore.weight == 1)]


def _rescored(tried: Sequence[Trial], rescorers: Sequence[str]) -> list[Trial]:
    """These trials with each slot that can rescore."""
    settings = itertools.product(tried, rescorers, RESCORED, INTERPOLATED)
    return [replace(trial, rescore=Rescore(slot, reads, weight=weight)) for trial, slot, reads, weight in settings]


def reranker_stages(stage: Rerank) -> list[Rerank]:
    """A stage of the config with fewer candidates, and with other weights of its score."""
    counts = sorted({min(count, stage.candidates) for count in (*RERANKED, stage.candidates)})
    weights = sorted({*INTERPOLATED, stage.weight})
    return [
        replace(stage, candidates=count, weight=weight, early_exit=None)
        for count, weight in itertools.product(counts, weights)
    ]


def fusions(slots: Sequence[str]) -> Iterator[Fusion]:
    """The fusions of these slots, without and with weights."""
    for weights in ({}, *_weights(slots)):
        yield from (Rrf(k, weights) for k in KS)
        yield Linear("minmax", weights)
        yield from (Linear("zscore", weights, missing=missing) for missing in MISSING)
    yield Dbsf()


def _weights(slots: Sequence[str]) -> Iterator[dict[str, float]]:
    if len(slots) == 2:
        for share in SHARES:
            yield dict(zip(slots, (share, round(1 - share, 2)), strict=True))
        return
    for cut in itertools.product(range(1, STEPS + 1), repeat=len(slots)):
        if len(set(cut)) > 1 and max(cut) == STEPS:
            yield {slot: part / STEPS for slot, part in zip(slots, cut, strict=True)}


def _kind(fusion: Fusion) -> tuple[object, ...]:
    if isinstance(fusion, Rrf):
        return ("rrf", fusion.k)
    return ("dbsf",) if isinstance(fusion, Dbsf) else (fusion.normalize, fusion.missing)


@dataclass(frozen=True, slots=True)
class Against:
    """What the tuner's choice gains on queries that did not choose it.

    Args:
        name: name of the baseline.
        mean: held-out nDCG of the choices minus the baseline's.
        low, high: bootstrap interval of the mean.
        needed: queries that would show the gain if it stayed as it is; None where there is no gain or it is shown.
    """

    name: str
    mean: float
    low: float
    high: float
    needed: int | None


CHOSEN, PRESENT_MARK, FRONT = "★", "now", "●"
LEGEND = f"{CHOSEN} recommended, {FRONT} on the Pareto front: no other is better in one and as good in the rest"


def mark(*, front: bool, chosen: bool, present: bool) -> str:
    """The marks of a row in a table of what was tried."""
    return " ".join([CHOSEN] * chosen + [FRONT] * front + [PRESENT_MARK] * present)


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial.

    Args:
        index: place of the trial; `start` if no other passes the gate.
        tuned: the trial that the rule chooses on all queries, whether it passes or not.
        passed: whether the tuned one passes.
        gains: held-out gains of the tuned one, against the start and, unless it is that slot, the best single slot.
    """

    index: int
    tuned: int
    passed: bool
    gains: tuple[Against, ...]


def choose(
    values: Doubles,
    trials: Sequence[Trial],
    start: int,
    *,
    start_fits: bool = True,
) -> Choice:
    """The trial to search by.

    The queries are divided into five parts, four times over. The rule chooses on four parts, and its choice is measured
    on the fifth, so the gate reads a gain on queries that did not choose. The gate passes if two intervals lie above 0:
    that of the gain over the start, and that of the gain over the best single slot, chosen on the same four parts. If
    the gate does not pass, but that slot alone is shown to beat the start, the slot is taken.

    Args:
        values: `[trials, n]`.
        start: the trial that stays unless another one passes.
        start_fits: whether the start may stay; if it exceeds a budget, the rule's choice among the others passes, or
            the best single slot if that is better on held-out queries.
    """
    count = values.shape[1]
    order = simplicity(trials, start)
    if not start_fits and len(trials) > 1:
        order = order[order != start]
    tuned = simplest(values, order)
    if count < LEAST:
        return Choice(start, tuned, False, ())
    chosen_values, single_values = held_out(values, trials, order)
    gains: tuple[Against, ...] = (
        against(PRESENT, chosen_values - values[start]),
        against(SINGLE, chosen_values - single_values),
    )
    single_gain = against(PRESENT, single_values - values[start])
    beats_single = trials[tuned].is_single or (gains[1].low if start_fits else gains[1].mean) > 0
    shown = beats_single and (gains[0].low > 0 or not start_fits)
    if not shown and (single_gain.low > 0 or not start_fits):
        singles = [int(place) for place in order if trials[place].is_single] or [int(order[0])]
        tuned, gains, shown = max(singles, key=lambda place: float(values[place].mean())), (single_gain,), True
    passed = shown and tuned != start
    return Choice(tuned if passed else start, tuned, passed, gains)


def simplicity(trials: Sequence[Trial], start: int) -> NDArray[np.int64]:
    """The trials from the simplest on; of equally simple ones the start comes first."""
    keys = [(*trial.complexity, place != start, place) for place, trial in enumerate(trials)]
    return np.array(sorted(range(len(trials)), key=lambda place: keys[place]), np.int64)


def simplest(values: Doubles, order: NDArray[np.int64]) -> int:
    """The first trial in `order` that loses less than one standard error to the best of them.

    Breiman et al., "Classification and Regression Trees", 1984; the error is that of the paired difference.
    """
    ordered = values[order]
    gaps = ordered[ordered.mean(axis=1).argmax()] - ordered
    errors = gaps.std(axis=1, ddof=1) / math.sqrt(values.shape[1]) if values.shape[1] > 1 else np.zeros(len(order))
    return int(order[np.flatnonzero(gaps.mean(axis=1) <= errors)[0]])


def with_front(rows: Sequence[R], costs: Callable[[R], tuple[float, ...]]) -> list[R]:
    """The rows, each marked if it is on the Pareto front: no other costs less somewhere and nowhere more."""
    each = [costs(row) for row in rows]
    return [
        replace(row, front=not any(other != own and all(map(le, other, own)) for other in each))
        for row, own in zip(rows, each, strict=True)
    ]


def held_out(values: Doubles, trials: Sequence[Trial], order: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """For each query the value of what the others choose, and of the single slot that they find best, `[n]` each."""
    count = values.shape[1]
    alone = [int(place) for place in order if trials[place].is_single]
    singles = np.array(alone or order[:1], np.int64)  # no single slot if all are too slow
    chosen_values, single = np.zeros(count), np.zeros(count)
    for training, part in folds(count):
        chosen_values[part] += values[simplest(values[:, training], order), part] / ROUNDS
        best = singles[values[singles][:, training].mean(axis=1).argmax()]
        single[part] += values[best, part] / ROUNDS
    return chosen_values, single


def folds(count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Queries to choose by, and those that are held out, so that each is held out in each of `ROUNDS` rounds."""
    random = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for part in np.array_split(random.permutation(count), min(FOLDS, count)):
            yield np.setdiff1d(np.arange(count), part), part


def against(name: str, gaps: Doubles) -> Against:
    """What held-out gaps `[n]` to the baseline of this name say."""
    mean = float(gaps.mean())
    low, high = interval(gaps, confidence=CONFIDENCE, samples=5_000)
    is_unclear = mean > 1e-4 and low <= 0
    needed = math.ceil(len(gaps) * ((mean - low) / mean) ** 2) if is_unclear else None
    return Against(name, mean, low, high, needed)


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
        best = [sorted((grade for grade in own.values() if grade > 0), reverse=True)[:cutoff] for own in judgements]
        ideal = np.array([float(np.dot(grades, _discounts(len(grades)))) for grades in best])
        return cls(slots, scores, ranks, gains, ideal, cutoff)

    def __len__(self) -> int:
        return len(self.ideal)

    def cut(self, depth: int) -> Legs:
        """As if each slot had passed on only its first `depth` candidates."""
        inside = (self.ranks > 0) & (self.ranks <= depth)
        return replace(self, scores=np.where(inside, self.scores, np.nan), ranks=np.where(inside, self.ranks, 0))

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
