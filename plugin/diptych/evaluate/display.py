"""Evaluations side by side: `table` and `comparison_table` for a terminal, `to_data` and `to_json` for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from diptych.errors import EvaluationError
from diptych.evaluate.comparison import Comparison, Difference
from diptych.evaluate.scoring import Evaluation

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


_BETTER, _WORSE = "▲", "▼"


def table(
    evaluations: Sequence[Evaluation], *, comparisons: Sequence[Comparison] = (), title: str = "", digits: int = 3
) -> Table:
    """A rich table: a row for each evaluation, a column for each metric, the best value of a column in bold.

    `comparisons`, one a metric, mark values that differ significantly from the baseline; the caption says how.

    Raises:
        EvaluationError: there is nothing to show, the evaluations have different metrics, or two comparisons are of one
            metric.
    """
    from rich.table import Table
    from rich.text import Text

    metrics, by_metric = _common_metrics(evaluations), _by_metric(comparisons)
    caption = Text("\n".join(_caption(evaluations, comparisons)), justify="left")
    shown = Table(title=Text(title) if title else None, caption=caption)
    shown.add_column("run", overflow="fold")
    for metric in metrics:
        shown.add_column(metric, justify="right")
    for row in evaluations:
        cells = (_cell(row, evaluations, metric, by_metric.get(metric), digits) for metric in metrics)
        shown.add_row(Text(row.name), *cells)
    return shown


def comparison_table(comparison: Comparison, *, digits: int = 3) -> Table:
    """A rich table: for each run its effect against the baseline, interval, p-value and wins, ties, losses."""
    from rich.table import Table
    from rich.text import Text

    caption = f"{comparison.describe()}; bootstrap intervals at the same level"
    title = Text(f"{comparison.metric} minus that of {comparison.baseline}")
    shown = Table(title=title, caption=Text(caption, justify="left"))
    shown.add_column("run", overflow="fold")
    interval = f"{100 * comparison.confidence:g}% interval"
    for name in ("mean", interval, "p", "wins", "ties", "losses"):
        shown.add_column(name, justify="right")
    for found in comparison.differences:
        shown.add_row(Text(found.name), *_difference_cells(found, digits))
    return shown


def _difference_cells(found: Difference, digits: int) -> tuple[str, ...]:
    numbers = (f"{found.mean:+z.{digits}f}", f"{found.low:+z.{digits}f} to {found.high:+z.{digits}f}")
    counts = (str(found.wins), str(found.ties), str(found.losses))
    return (*numbers, f"{found.adjusted:.4f}", *counts)


def _common_metrics(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    if not evaluations:
        raise EvaluationError("there is nothing to show", expected="at least one evaluation")
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


def _cell(
    evaluation: Evaluation, others: Sequence[Evaluation], metric: str, comparison: Comparison | None, digits: int
) -> Text:
    from rich.text import Text

    text = f"{evaluation.means[metric]:.{digits}f}"
    best = max((other.means[metric] for other in others), default=0.0)
    style = "bold" if text == f"{best:.{digits}f}" and len(others) > 1 else ""
    mark = _mark(comparison, evaluation.name) if comparison else ""
    return Text(text, style=style).append(f" {mark}" if comparison else "", style="")


def _mark(comparison: Comparison, name: str) -> str:
    """One character, a space when there is nothing to say, so that figures stay aligned."""
    found = next((difference for difference in comparison.differences if difference.name == name), None)
    if found is None or not comparison.significant(name):
        return " "
    return _BETTER if found.mean > 0 else _WORSE


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
    return json.dumps(to_data(evaluations, comparisons, per_query=per_query), indent=2, ensure_ascii=False)


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
