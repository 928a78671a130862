"""Evaluations side by side: `table` for people, `to_data` and `to_json` for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych.display import Display, Table, json_text
from diptych.errors import EvaluationError
from diptych.evaluate.comparison import Comparison, Difference
from diptych.evaluate.scoring import Evaluation

_BETTER, _WORSE = "▲", "▼"


def table(
    evaluations: Sequence[Evaluation], *, comparisons: Sequence[Comparison] = (), title: str = "", digits: int = 3
) -> Display:
    """A row for each evaluation, a column for each metric; as text and in notebooks.

    `comparisons`, one a metric, mark values that differ significantly from the baseline; a note says how.

    Raises:
        EvaluationError: no evaluation, evaluations with different metrics, or two comparisons of one metric.
    """
    metrics, by_metric = _common_metrics(evaluations), _by_metric(comparisons)
    rows = [
        (run.name, *(f"{run.means[metric]:.{digits}f}{_mark(by_metric.get(metric), run.name)}" for metric in metrics))
        for run in evaluations
    ]
    listing = Table(("run", *metrics), rows, numbers=range(1, len(metrics) + 1))
    return Display(title, [listing, *_caption(evaluations, comparisons)])


def _common_metrics(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    if not evaluations:
        raise EvaluationError("no evaluations to show", expected="at least one evaluation")
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.metrics != first.metrics:
            raise EvaluationError(
                f"{first.name!r} and {other.name!r} have different metrics",
                got=", ".join(other.metrics),
                expected=", ".join(first.metrics),
            )
    return first.metrics


def _by_metric(comparisons: Sequence[Comparison]) -> dict[str, Comparison]:
    by_metric = {comparison.metric: comparison for comparison in comparisons}
    if len(by_metric) != len(comparisons):
        raise EvaluationError("two comparisons use the same metric", got=", ".join(c.metric for c in comparisons))
    return by_metric


def _mark(comparison: Comparison | None, name: str) -> str:
    """Whether the run differs; a space when it is not shown to, so that figures stay aligned."""
    if comparison is None:
        return ""
    found = next((difference for difference in comparison.differences if difference.name == name), None)
    if found is None or not comparison.significant(name):
        return "  "
    return f" {_BETTER if found.mean > 0 else _WORSE}"


def _caption(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> list[str]:
    counts = {len(evaluation.queries) for evaluation in evaluations}
    number = str(counts.pop()) if len(counts) == 1 else "different numbers of"
    marks = [
        f"{_BETTER} better, {_WORSE} worse than {found.baseline} (p < {found.alpha:g}; {found.describe()} per metric)"
        for found in comparisons
    ]
    remarks = [remark for evaluation in evaluations for remark in evaluation.remarks()]
    return [f"means over {number} judged queries", *dict.fromkeys(marks), *remarks]


def to_json(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = (), *, per_query: bool = False
) -> str:
    """`to_data` as indented JSON text."""
    return json_text(to_data(evaluations, comparisons, per_query=per_query))


def to_data(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison] = (), *, per_query: bool = False
) -> dict[str, Any]:
    """`{"evaluations": [...], "comparisons": [...]}` of JSON values; `per_query` adds each query's value."""
    return {
        "evaluations": [_evaluation(evaluation, per_query) for evaluation in evaluations],
        "comparisons": [_comparison(comparison, per_query) for comparison in comparisons],
    }


def _evaluation(evaluation: Evaluation, per_query: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "run": evaluation.name,
        "queries": len(evaluation.queries),
        "means": dict(evaluation.means),
        "unanswered": list(evaluation.unanswered),
        "unjudged": list(evaluation.unjudged),
        "without_relevant": list(evaluation.without_relevant),
        "depth": evaluation.depth,
    }
    if per_query:
        data["per_query"] = {metric: dict(values) for metric, values in evaluation.per_query.items()}
    return data


def _comparison(comparison: Comparison, per_query: bool) -> dict[str, Any]:
    return {
        "metric": comparison.metric,
        "baseline": comparison.baseline,
        "seed": comparison.seed,
        "samples": comparison.samples,
        "confidence": comparison.confidence,
        "differences": [_difference(difference, comparison, per_query) for difference in comparison.differences],
    }


def _difference(difference: Difference, comparison: Comparison, per_query: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "run": difference.name,
        "mean": difference.mean,
        "interval": [difference.low, difference.high],
        "p_value": difference.p_value,
        "adjusted_p_value": difference.adjusted,
        "significant": comparison.significant(difference.name),
        "wins": difference.wins,
        "ties": difference.ties,
        "losses": difference.losses,
    }
    return {**data, "per_query": dict(difference.per_query)} if per_query else data
