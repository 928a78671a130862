"""`Trial`: a way to search that `tune search` tries, and the value of each for each query, from `Legs` alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.stages import Dbsf, Fusion, Linear, Rescore, Rrf
from diptych.tune.legs import Doubles, Legs

KS = (5, 20, 60)  # of RRF
MISSING = (-2.5, -1.0)  # deviations that a document counts where a slot did not find it
SHARES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)  # of the first of two slots; .5 is no weight
STEPS = 4  # shares of three slots and more are in quarters
RESCORED = (20, 50)


@dataclass(frozen=True, slots=True)
class Trial:
    """A pipeline to try.

    Args:
        slots: that are retrieved from.
        fusion: None for one slot.
        rescore: the slot that rescores the best, and how many.
        depth: candidates of each slot.
    """

    slots: tuple[str, ...]
    fusion: Fusion | None = None
    rescore: tuple[str, int] | None = None
    depth: int = 100

    @property
    def complexity(self) -> tuple[int, int, int]:
        """Slots and stages, weights, and depth: of trials that are as good, the least is taken."""
        weights = getattr(self.fusion, "weights", {}) if self.fusion else {}
        return (len(self.slots) + (2 if self.rescore else 0), len(weights), self.depth)

    def pipeline(self) -> Pipeline:
        """What searches so."""
        pipeline = Pipeline(tuple(Retrieve(slot, self.depth) for slot in self.slots))
        if self.fusion is not None:
            pipeline = pipeline >> self.fusion
        return pipeline if self.rescore is None else pipeline >> Rescore(*self.rescore)

    def __str__(self) -> str:
        slots = f"{' + '.join(self.slots)}"
        fusion = f" >> {self.fusion!r}" if self.fusion else ""
        rescore = f" >> Rescore{self.rescore!r}" if self.rescore else ""
        return f"{slots}{fusion}{rescore}"


@dataclass(slots=True)
class Values:
    """The nDCG of trials, each computed once.

    Args:
        legs: what every slot found.
        late: by slot that can rescore, its scores `[n, width]` of all candidates, NaN where it has none.
    """

    legs: Legs
    late: Mapping[str, Doubles] = field(default_factory=dict)
    _parts: dict[object, Doubles] = field(default_factory=dict)

    def of(self, trial: Trial) -> Doubles:
        """The value of each query, `[n]`."""
        legs = self.legs.cut(trial.depth)
        if trial.rescore is None and trial.fusion is None:
            return legs.alone(trial.slots[0])
        fused = self._fused(trial, legs)
        if trial.rescore is not None:
            slot, reads = trial.rescore
            fused = rescored(fused, self.late[slot], reads)
        return self._among(legs, trial.slots).values(fused)

    def table(self, trials: Sequence[Trial]) -> Doubles:
        """The values of all trials, `[trials, n]`."""
        return np.array([self.of(trial) for trial in trials])

    def _among(self, legs: Legs, slots: Sequence[str]) -> Legs:
        return legs if tuple(slots) == legs.slots else legs.of_slots(slots)

    def _fused(self, trial: Trial, legs: Legs) -> Doubles:
        chosen = self._among(legs, trial.slots)
        if trial.fusion is None:
            ranks = chosen.ranks[:, 0]
            return np.where(ranks > 0, -ranks.astype(np.float64), -np.inf)
        key = (trial.slots, trial.depth, _kind(trial.fusion))
        if key not in self._parts:
            self._parts[key] = parts_of(trial.fusion, chosen)
        weights = getattr(trial.fusion, "weights", {})
        weighed = np.array([weights.get(slot, 1.0) for slot in trial.slots])
        return np.asarray(np.einsum("nsw,s->nw", self._parts[key], weighed))


def parts_of(fusion: Fusion, legs: Legs) -> Doubles:
    """The unweighted part of each slot in a fused score, `[n, slots, width]`."""
    if isinstance(fusion, Rrf):
        return legs.parts("rrf", k=fusion.k)
    if isinstance(fusion, Dbsf):
        return legs.parts("dbsf")
    return legs.parts(fusion.normalize, missing=fusion.missing)


def rescored(fused: Doubles, rescores: Doubles, reads: int) -> Doubles:
    """The best `reads` of each query ordered by `rescores`; the others, and those without a score, are left out."""
    places = np.argsort(np.argsort(-fused, axis=1, kind="stable"), axis=1, kind="stable")
    return np.where((places < reads) & np.isfinite(fused) & ~np.isnan(rescores), np.nan_to_num(rescores), -np.inf)


def trials(slots: Sequence[str], rescorers: Sequence[str] = (), *, depths: Sequence[int] = (100,)) -> list[Trial]:
    """Each slot alone; every fusion of all slots, and of all but one; and the unweighted ones rescored."""
    found = [Trial((slot,), depth=max(depths)) for slot in slots]
    groups = [tuple(slots)] if len(slots) > 1 else []
    if len(slots) > 2:
        groups += [tuple(s for s in slots if s != out) for out in slots]
    for group, depth in itertools.product(groups, depths):
        fused = [Trial(group, fusion, depth=depth) for fusion in fusions(group)]
        plain = [trial for trial in fused if not getattr(trial.fusion, "weights", {})]
        found += fused
        found += [
            Trial(group, trial.fusion, (slot, reads), depth)
            for trial, slot, reads in itertools.product(plain, rescorers, RESCORED)
        ]
    return found


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
