"""Carries a `score_threshold` over when other encoders or another fusion change the scores it was chosen for.

With judgements, the new threshold is the lowest at which the hits of the judged queries are as precise as above the old
one. Without them, the threshold is reported as stale.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diptych.config import Config
from diptych.evaluate import Qrels
from diptych.handle.open_handle import stored_search
from diptych.handle.snapshot import View
from diptych.metadata.models import CollectionMetadata
from diptych.search import Pipeline
from diptych.swap.changes import SWAPS, Change
from diptych.swap.gate.answers import answers, pipeline_of, query_obstacle, without_threshold
from diptych.swap.gate.judged import Judged
from diptych.types import Hit, Query

LEAST_HITS = 20  # above the old threshold; with fewer, their precision says little
_DIGITS = 6  # to which a carried threshold is rounded, always down, so that no hit is lost


@dataclass(frozen=True, slots=True)
class Threshold:
    """What becomes of `search.score_threshold`.

    Args:
        old: the threshold of config and collection.
        new: the threshold of equal precision; None if the old one is stale.
        precision: precision of the judged queries' hits above the old one; NaN if it could not be measured.
        reason: why it is stale; empty if it was carried over.
    """

    old: float
    new: float | None = None
    precision: float = math.nan
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What was done, and what to change in the config."""
        what = f"search.score_threshold {self.old:g}"
        if self.new is None:
            return (
                f"{what} is stale: it was chosen for the old scores, and {self.reason}; choose a new one with "
                "diptych evaluate --calibration"
            )
        return (
            f"{what} is carried over as {self.new:g}, at a precision of {self.precision:.2f} on the judged queries; "
            f"write it into the config, or the next apply sets {self.old:g} again"
        )

    @property
    def measured(self) -> str:
        """With which threshold the gate measured, where the new settings do not go live."""
        if self.new is None:
            return self.sentence
        return f"measured with search.score_threshold {self.new:g}, as precise as {self.old:g} is now"


def carried_threshold(threshold: float, old: View, new: View, judged: Judged | None) -> Threshold | None:
    """What replaces a threshold that the config keeps although the scores change; None if no change is needed.

    Args:
        threshold: of both views.
        old, new: the views before and after the change.
        judged: the judged queries; None if there are none.
    """
    if not scores_change(pipeline_of(old), pipeline_of(new), _changed_slots(old, new)):
        return None
    if judged is None or not judged.asked:
        return Threshold(threshold, reason="without judged queries no equal precision can be measured")
    if obstacle := query_obstacle(old):
        return Threshold(threshold, reason=f"the old pipeline answers nothing ({obstacle})")
    return _of_equal_precision(threshold, old, new, judged)


def threshold_warnings(metadata: CollectionMetadata, config: Config, slot_changes: Sequence[Change]) -> list[str]:
    """A warning of what apply would do with a threshold that the config keeps although the scores change."""
    stored = stored_search(metadata)
    threshold = config.search.score_threshold
    if not metadata.search or threshold is None or threshold != stored.score_threshold:
        return []
    slots = {change.name: change.slot for change in slot_changes if change.slot is not None}
    before, after = (Pipeline.from_config(search, slots) for search in (stored, config.search))
    if not scores_change(before, after, {change.name for change in slot_changes if change.action in SWAPS}):
        return []
    judged = Judged.of(config.evaluate)
    done = "apply carries it over at equal precision on the judged queries" if judged else "it is stale"
    return [f"search.score_threshold {threshold:g} was chosen for other scores: {done}"]


def scores_change(old: Pipeline, new: Pipeline, changed: Collection[str]) -> bool:
    """Whether the final scores of two pipelines have different scales; `changed` are the slots with another encoder.

    A reranker at the end without a `weight` gives its own scores, whatever comes before it.
    """
    last = [pipeline.rerank[-1] if pipeline.rerank else None for pipeline in (old, new)]
    if last[0] is not None and last[1] is not None and last[0].weight == last[1].weight == 1:
        return (last[0].adapter, last[0].options) != (last[1].adapter, last[1].options)
    return _plain(old) != _plain(new) or any(slot in changed for slot in new.slots)


def _plain(pipeline: Pipeline) -> Pipeline:
    """The pipeline without settings of the approximate search, which do not change scores."""
    return replace(pipeline, retrieve=tuple(replace(branch, params=None) for branch in pipeline.retrieve))


def _changed_slots(old: View, new: View) -> set[str]:
    """Slots whose vectors come from another encoder, or are new."""
    before, after = (
        {name: generation.space for name, slot in view.slots.items() if (generation := slot.generation)}
        for view in (old, new)
    )
    return {name for name, space in after.items() if before.get(name) != space}


def _of_equal_precision(threshold: float, old: View, new: View, judged: Judged) -> Threshold:
    before, after = (_scored(view, judged.asked, judged.qrels) for view in (old, new))
    above = [is_relevant for score, is_relevant in before if score >= threshold]
    if len(above) < LEAST_HITS or not any(above):
        reason = f"{len(above)} hits of the judged queries are above it, {sum(above)} of them relevant"
        return Threshold(threshold, reason=f"{reason}: too few to measure its precision")
    precision = sum(above) / len(above)
    lowest = _lowest_as_precise(after, precision)
    if lowest is None:
        return Threshold(threshold, None, precision, f"no new threshold reaches its precision of {precision:.2f}")
    return Threshold(threshold, lowest, precision)


def _lowest_as_precise(scored: Sequence[tuple[float, bool]], precision: float) -> float | None:
    """The lowest score at and above which at least this share of the hits is relevant; None if there is none."""
    ranked = sorted(scored, reverse=True)
    scores = np.array([score for score, _ in ranked])
    shares = np.cumsum([is_relevant for _, is_relevant in ranked]) / np.arange(1, len(ranked) + 1)
    ends = np.append(scores[1:] != scores[:-1], True)  # hits of equal scores are all above a threshold, or none is
    fitting = np.flatnonzero(ends & (shares >= precision))
    return _rounded_down(float(scores[fitting[-1]])) if len(fitting) else None


def _scored(view: View, queries: Sequence[Query], qrels: Qrels) -> list[tuple[float, bool]]:
    """The score of each hit that the view would return without a threshold, and whether it is judged relevant."""
    limit = view.search_config.limit
    hits: list[Sequence[Hit]] = answers(without_threshold(view), queries, depth=limit)
    return [
        (hit.score, hit.id in qrels.relevant(query.id))
        for query, query_hits in zip(queries, hits, strict=True)
        for hit in query_hits
    ]


def _rounded_down(value: float) -> float:
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - _DIGITS + 1)
    return float(f"{math.floor(value / unit) * unit:.{_DIGITS}g}")
