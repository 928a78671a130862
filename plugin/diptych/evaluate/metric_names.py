"""Names of measures, as ir-measures reads and prints them: `nDCG@10`, `MRR@10`, `Recall@100`, `MAP`, `P@10`, ..."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from diptych.errors import EvaluationError
from diptych.evaluate._extras import load

DEFAULT_METRICS = ("nDCG@10", "MRR@10", "Recall@100", "MAP", "P@10")


def parse_metrics(metrics: Sequence[str]) -> dict[str, Any]:
    """`{name as given: ir-measures' measure}`, in order.

    Raises:
        EvaluationError: no name, or one that no installed provider computes; the nearest known one is named.
        MissingExtra: ir-measures is not installed.
    """
    if not metrics or isinstance(metrics, str):
        raise EvaluationError("there are no metrics", got=repr(metrics), expected="names like 'nDCG@10'")
    return {name: _parse(name) for name in metrics}


def cutoff(name: str) -> int | None:
    """The rank at which a measure stops reading, None when it reads everything."""
    found = re.search(r"@(\d+)$", name)
    return int(found[1]) if found else None


def _parse(name: str) -> Any:
    ir_measures = load("ir_measures", purpose="evaluation")
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
        supported = ir_measures.DefaultPipeline.supports(measure)
    except (NameError, ValueError, TypeError, AssertionError, KeyError) as error:
        raise _unknown(name, str(error), ir_measures) from error
    if not supported:
        raise _unknown(name, "no installed provider computes it", ir_measures)
    if cutoff(name) == 0:
        raise _unknown(name, "a cutoff of 0", ir_measures)
    return measure


def _unknown(name: str, reason: str, ir_measures: Any) -> EvaluationError:
    near = _nearest(name, list(ir_measures.measures.registry))
    return EvaluationError(
        f"unknown metric {name!r}",
        got=reason,
        expected=f"a measure of ir-measures, such as {', '.join(DEFAULT_METRICS)}",
        do=f"did you mean {near!r}?" if near else "see https://ir-measur.es/en/latest/measures.html",
        metric=name,
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    """The known measure most similar to `name`, ignoring case, with its cutoff or else 10."""
    stem, at, depth = (part.strip() for part in name.partition("@"))
    by_lower = {measure.lower(): measure for measure in reversed(known)}  # of nDCG and its alias NDCG, the first
    near = difflib.get_close_matches(stem.lower(), list(by_lower), n=1)
    if not near:
        return ""
    found = by_lower[near[0]]
    if at or found == stem:
        return f"{found}@{depth if depth.isdigit() and int(depth) else 10}"
    return found
