"""Evaluations and comparisons as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from diptych.evaluate.comparison import Comparison, Difference
from diptych.evaluate.scoring import Evaluation


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
        "method": comparison.method,
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
