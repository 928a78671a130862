"""`Trial`: a way to search that `tune search` tries, and the value of each for each query, from `Legs` alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diptych.config.models import SearchParams
from diptych.config.stages import Dbsf, Fusion, Linear, Rerank, Rescore, Rrf
from diptych.search.pipeline import Pipeline, Retrieve, search_params
from diptych_lab.tune.slot_candidates import Doubles, Legs

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

    def __str__(self) -> str:
        stages = [self.fusion, self.rescore, self.rerank, self.params]
        return " >> ".join([" + ".join(self.slots), *(repr(stage) for stage in stages if stage is not None)])


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

    def table(self, trials: Sequence[Trial]) -> Doubles:
        """The values of all trials, `[trials, n]`."""
        return np.array([self.of(trial) for trial in trials])

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
        replace(base, rerank=variant) for stage in rerankers for base in bases for variant in _after(base, stage)
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


def _after(base: Trial, stage: Rerank) -> list[Rerank]:
    """A stage of the config as it is tried after a base; a fusion with weights is tried with all candidates alone."""
    return [variant for variant in reranker_stages(stage) if base.is_plain or variant.candidates == stage.candidates]


def reranker_stages(stage: Rerank) -> list[Rerank]:
    """A stage of the config with fewer candidates, and with other weights of its score; without exploring."""
    counts = sorted({min(count, stage.candidates) for count in (*RERANKED, stage.candidates)})
    weights = sorted({*INTERPOLATED, stage.weight})
    return [
        replace(stage, candidates=count, weight=weight, early_exit=None, explore=None)
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
