"""Evaluations: means with intervals, differences from a baseline query by query, and the verdict on judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np

from diptych.errors import MissingExtra
from diptych.evaluate import Comparison, Difference, Evaluation, bootstrap_means, percentile_interval
from diptych_lab.judge.judging import Verdict
from diptych_lab.notebook.charts import around, differences, interval, strip
from diptych_lab.notebook.elements import BAD, GOOD, GREY, Content, Html, foreign, join, note, notes, page, table, tag

SAMPLES = 2000  # of the intervals of means
CONFIDENCE = 0.95
_BOUNDS = attrgetter("mean", "low", "high")


def evaluation(value: Evaluation) -> Html:
    """The means of one run, each with its interval."""
    if not value.metrics:
        return page(join(foreign(value.name), ": no metric was computed"))
    first, count = value.metrics[0], len(value.queries)
    sentence = join(f"{first} {value.means[first]:.4f} of ", foreign(value.name), f" over {count:,} judged queries")
    intervals = {metric: _interval([*value.values(metric).values()]) for metric in value.metrics}
    ends = around(0.0, *(end for own in intervals.values() if own for end in own))
    rows = [_mean(metric, value.means[metric], intervals[metric], ends) for metric in value.metrics]
    bounded = any(intervals.values())
    shown = table(("metric", "mean", *(("95% interval", "") if bounded else ())), rows, right=1)
    try:
        remarks = value.remarks()
    except MissingExtra:  # it reads the cutoffs of the metrics
        remarks = []
    return page(sentence, shown, notes(remarks))


def _mean(
    metric: str, mean: float, found: tuple[float, float] | None, ends: tuple[float, float]
) -> tuple[Content, ...]:
    cells: tuple[Content, ...] = (tag("bdi", metric), f"{mean:.4f}")
    if found is None:
        return cells
    return *cells, f"{found[0]:.4f} to {found[1]:.4f}", interval(mean, *found, ends=ends, plain=True)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap interval of a mean; None of a single query, and where scipy is not installed."""
    if len(values) < 2:
        return None
    means = bootstrap_means(np.array(values, np.float64), samples=SAMPLES, seed=0)
    try:
        return percentile_interval(means, size=len(values), confidence=CONFIDENCE)
    except MissingExtra:
        return None


def comparison(value: Comparison) -> Html:
    """Each run against the baseline: the verdict, the interval, and every query's difference."""
    verdicts = [_verdict(value, difference) for difference in value.differences]
    rows = [
        (
            foreign(difference.name),
            *cells,
            f"{difference.adjusted:.4f}",
            f"{difference.wins}, {difference.ties}, {difference.losses}",
            strip([*difference.per_query.values()]),
        )
        for difference, cells in zip(value.differences, differences(map(_BOUNDS, value.differences)), strict=True)
    ]
    level = f"{100 * value.confidence:g}% interval"
    names = ("run", value.metric, level, "", "p", "better, equal, worse", "queries, worst to best")
    colour = _colour([difference for difference in value.differences if value.significant(difference.name)])
    about = note(foreign(f"against {value.baseline}; {value.describe()}", limit=1000))
    return page(join(*verdicts), table(names, rows, right=1), about, mark=colour)


def _verdict(value: Comparison, own: Difference) -> Html:
    better = "better" if own.mean > 0 else "worse"
    told = f" is {better} than " if value.significant(own.name) else " is not shown to differ from "
    figures = f": {value.metric} {own.mean:+z.4f} [{own.low:+z.4f}, {own.high:+z.4f}]"
    return tag("div", foreign(own.name), told, foreign(value.baseline), figures)


def _colour(significant: Sequence[Difference]) -> str:
    if not significant:
        return GREY
    return GOOD if all(difference.mean > 0 for difference in significant) else BAD


def verdict(value: Verdict) -> Html:
    """What judgements show so far."""
    lines = value.sentence.splitlines()
    rows = [
        (foreign(difference.name), difference.outcome, *cells)
        for difference, cells in zip(value.differences, differences(map(_BOUNDS, value.differences)), strict=True)
    ]
    colours: Mapping[str, str] = {"better": GOOD, "worse": BAD}
    outcomes = {difference.outcome for difference in value.differences}
    colour = colours.get(outcomes.pop(), GREY) if len(outcomes) == 1 else GREY
    level = f"{100 * value.confidence:g}% interval"
    sentence = join(*(tag("div", foreign(line, limit=1000)) for line in lines[1:] or lines))
    return page(sentence, table(("run", "", value.metric, level, ""), rows, right=2), notes(lines[:1]), mark=colour)
