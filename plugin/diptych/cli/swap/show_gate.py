"""Prints the measurements of a swap's gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table

from diptych.cli.ui.output import printable, say, table

if TYPE_CHECKING:
    from diptych.swap import GateReport
    from diptych.swap.gate.answers import KnownItem, SideBySide
    from diptych.swap.gate.judged import QueryLoss

SNIPPET = 60  # characters of a query or hit where the terminal does not decide


def show_gate(console: Console, report: GateReport) -> None:
    """What was measured: the judged comparison, or checks without judgements and queries side by side."""
    say(console, printable(f"gate: {report.sentence}", limit=2000), "bold")
    if report.known_items:
        console.print(_known_items(report.known_items))
    for line in _lines(report):
        say(console, f"  {line}")
    if report.judged and report.judged.worst:
        console.print(_worst(report.judged.worst))
    _samples(console, report.samples)
    for remark in report.remarks:
        say(console, f"  {remark}", "dim")


def _known_items(items: Sequence[KnownItem]) -> Table:
    """How many documents their own words find."""
    heading = f"  {items[0].documents:,} documents, found among the first 10 by"
    listing = table(heading, "old", "new", "lost", "at most", right=1)
    for item in items:
        slot = "" if item.of == "pipeline" else f"{printable(item.of)} alone, "
        lost = f"{item.losses:,} of {item.found:,}", f"{item.most_lost:.1%}"
        listing.add_row(f"  {slot}{item.by}", f"{item.old:.1%}", f"{item.new:.1%}", *lost)
    return listing


def _lines(report: GateReport) -> Iterator[str]:
    """Judged queries, neighbours and times."""
    if (judged := report.judged) and judged.wins + judged.ties + judged.losses:
        counts = f"queries better {judged.wins:,}, equal {judged.ties:,}, worse {judged.losses:,}"
        yield f"{counts}; {judged.changed:.0%} of their first 10 hits change"
        for part in judged.slices:
            interval = f"[{part.low:+z.4f}, {part.high:+z.4f}]"
            yield f"{part.slice}: {part.mean:+z.4f} {interval} on {len(part.slice.queries):,} queries"
    if report.overlaps:
        shares = ", ".join(f"{overlap.of} {overlap.mean:.2f}" for overlap in report.overlaps)
        yield f"neighbours in common: {shares}"
    if report.latency is not None:
        yield report.latency.sentence


def _worst(queries: Sequence[QueryLoss]) -> Table:
    lost = table("queries that lost most", "old", "new")
    lost.columns[0].no_wrap = True
    for query in queries:
        lost.add_row(printable(query.text, limit=SNIPPET), f"{query.old:.3f}", f"{query.new:.3f}")
    return lost


def _samples(console: Console, samples: Sequence[SideBySide]) -> None:
    """Each query, and beneath it the first hits of the old encoders beside those of the new ones."""
    if not samples:
        return
    width = (console.width - 4) // 2 if console.is_terminal else SNIPPET
    console.print(_pair("old", "new", width), style="dim", soft_wrap=True)
    for sample in samples:
        console.print(printable(sample.query, limit=2 * width), style="cyan", soft_wrap=True)
        for old, new in zip_longest(sample.old, sample.new, fillvalue=""):
            console.print(_pair(old, new, width), soft_wrap=True)


def _pair(old: str, new: str, width: int) -> str:
    """Two columns of `width` cells, behind two spaces."""
    old_cell = set_cell_size(printable(old, limit=width - 1), width)
    return f"  {old_cell}{printable(new, limit=width - 1)}".rstrip()
