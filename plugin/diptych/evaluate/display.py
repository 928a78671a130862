"""`table`: evaluations side by side for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diptych.errors import EvaluationError
from diptych.evaluate.scoring import Evaluation

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def table(evaluations: Sequence[Evaluation], *, title: str = "", digits: int = 3) -> Table:
    """A rich table: a row for each evaluation, a column for each metric, the best value of a column in bold.

    Raises:
        EvaluationError: there is nothing to show, or the evaluations have different metrics.
    """
    from rich.table import Table
    from rich.text import Text

    metrics = _common_metrics(evaluations)
    shown = Table(title=title or None, caption=Text("\n".join(_caption(evaluations))), caption_justify="left")
    shown.add_column("run", overflow="fold")
    for metric in metrics:
        shown.add_column(metric, justify="right")
    for evaluation in evaluations:
        shown.add_row(Text(evaluation.name), *(_cell(evaluation, evaluations, metric, digits) for metric in metrics))
    return shown


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


def _cell(evaluation: Evaluation, evaluations: Sequence[Evaluation], metric: str, digits: int) -> Text:
    from rich.text import Text

    text = f"{evaluation.means[metric]:.{digits}f}"
    best = max(f"{other.means[metric]:.{digits}f}" for other in evaluations)
    return Text(text, style="bold" if text == best and len(evaluations) > 1 else "")


def _caption(evaluations: Sequence[Evaluation]) -> list[str]:
    counts = {len(evaluation.queries) for evaluation in evaluations}
    said = (
        f"means over {counts.pop()} judged queries" if len(counts) == 1 else "means over different numbers of queries"
    )
    return [said, *(remark for evaluation in evaluations for remark in evaluation.remarks())]
