"""The result of `tune_search`: a row for each trial, what is chosen, and a verdict in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diptych.search.pipeline import Pipeline
from diptych.search.stages import Dbsf, Linear, Rrf
from diptych.tune.choose import LEAST, Against


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One pipeline that was tried.

    Args:
        pipeline: what searches.
        value: mean nDCG@10 over all queries; `error` is its standard error.
        milliseconds: of a query, median, encoding included; rows whose requests have one shape share it.
        front: whether no row is both better and faster.
    """

    pipeline: Pipeline
    value: float
    error: float
    milliseconds: float
    front: bool = False

    def config(self) -> dict[str, Any]:
        """The keys of the config's `search` section that set it up."""
        section: dict[str, Any] = {"retrieve": {branch.slot: branch.candidates for branch in self.pipeline.retrieve}}
        if self.pipeline.fuse is not None:
            section["fuse"] = _fusion(self.pipeline.fuse)
        if self.pipeline.rescore is not None:
            rescore = self.pipeline.rescore
            section["rescore"] = {"slot": rescore.slot, "candidates": rescore.candidates}
        return section


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What `tune_search` found.

    Args:
        collection: its name.
        queries: judged ones that have a relevant document.
        rows: one for each pipeline; the last is the present one.
        present, chosen, tuned: places of the present pipeline, of what is to be searched by, and of what the rule
            chooses before the gate.
        passed: whether the gate lets the tuned one replace the present one.
        gains: of the choice on queries that did not choose it.
        confidence: of their intervals.
        seconds, calls: time, and requests to the store.
    """

    collection: str
    queries: int
    rows: tuple[SearchRow, ...]
    present: int
    chosen: int
    tuned: int
    passed: bool
    gains: tuple[Against, ...]
    confidence: float
    seconds: float
    calls: int

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.queries < LEAST:
            return f"{self.queries} judged queries cannot choose anything: at least {LEAST} are needed, 50 are better"
        if self.tuned == self.present:
            return "nothing simpler or better than the present pipeline was found: it stays"
        gain = self.gains[0]
        figures = (
            f"{self.rows[self.tuned].pipeline!r} gains {gain.mean:+.4f} nDCG@10 on held-out queries, "
            f"{self.confidence:.0%} interval [{gain.low:+.4f}, {gain.high:+.4f}]"
        )
        if self.passed:
            return f"{figures}: it is better than the present pipeline"
        unclear = next((gain_over for gain_over in self.gains if gain_over.needed), None)
        more = f"; about {unclear.needed} queries would show it if the gain stays" if unclear else ""
        return f"{figures}: not shown to be better, so the present pipeline stays{more}"


def front(rows: Sequence[SearchRow]) -> list[SearchRow]:
    """The rows, each marked if no other is at least as good and as fast, and better or faster."""
    return [replace(row, front=not any(_beats(other, row) for other in rows)) for row in rows]


def _beats(one: SearchRow, other: SearchRow) -> bool:
    costs, other_costs = ((-row.value, row.milliseconds) for row in (one, other))
    return costs != other_costs and costs[0] <= other_costs[0] and costs[1] <= other_costs[1]


def _fusion(fusion: Rrf | Dbsf | Linear) -> dict[str, Any]:
    section: dict[str, Any] = {"kind": fusion.label}
    if isinstance(fusion, Rrf):
        section["k"] = fusion.k
    if isinstance(fusion, Linear):
        section["normalize"] = fusion.normalize
        if fusion.missing is not None:
            section["missing"] = fusion.missing
    if getattr(fusion, "weights", {}):
        section["weights"] = dict(fusion.weights)  # type: ignore[union-attr]
    return section
