"""The table of `diptych evaluate --slices`: each run within groups of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from diptych.cli.ui.output import stderr, table

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.evaluate import Evaluation, Qrels
    from diptych.evaluate.slices import Slice
    from diptych.types import Query


@dataclass(frozen=True, slots=True)
class SliceMeans:
    """One group of queries.

    Args:
        by, value: what groups them, and the value of this group.
        queries: how many it has.
        metric: of the means.
        means: of each run.
    """

    by: str
    value: str
    queries: int
    metric: str
    means: Mapping[str, float]


def sliced(
    collection: Collection,
    queries: Sequence[Query],
    qrels: Qrels,
    by: Sequence[str],
    evaluations: Sequence[Evaluation],
    metric: str,
) -> list[SliceMeans]:
    """The mean of each run in each group of at least 10 queries, with a warning where nothing is grouped."""
    from diptych.evaluate import slices_of
    from diptych.swap.gate.document_fields import fields_of_queries

    if not by:
        return []
    parts = slices_of(queries, by, fields_of_queries(collection.handle.now(), by, qrels))
    _note_ungrouped(by, parts)
    return [
        SliceMeans(
            part.by,
            part.value,
            len(part.queries),
            metric,
            {
                evaluation.name: sum(evaluation.values(metric)[q] for q in part.queries) / len(part.queries)
                for evaluation in evaluations
            },
        )
        for part in parts
    ]


def show_slices(console: Console, slices: Sequence[SliceMeans]) -> None:
    """A row for each group, a column for each run."""
    if not slices:
        return
    shown = table(f"{slices[0].metric} of", "queries", *slices[0].means, right=1)
    for part in slices:
        shown.add_row(f"{part.by} {part.value}", str(part.queries), *(f"{mean:.3f}" for mean in part.means.values()))
    console.print(shown)


def _note_ungrouped(by: Sequence[str], slices: Sequence[Slice]) -> None:
    """Warn of each way of grouping that gives no group, such as a misspelt metadata key."""
    from diptych.evaluate.slices import LEAST

    for name in by:
        if name not in {part.by for part in slices}:
            stderr().print(f"--slices {name}: no {LEAST} queries share a value of it", style="yellow", markup=False)
