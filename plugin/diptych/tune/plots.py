"""Plots: of `tune_index` recall against time and memory, of `tune_search` quality against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.errors import TuneError
from diptych.evaluate._extras import load
from diptych.tune.reports import IndexReport, Row
from diptych.tune.search_report import SearchReport

# Okabe and Ito's palette, told apart by colour-blind readers; each kind has a shape of its own, too.
_KINDS = {
    "float32 or float16": ("#222222", "o"),
    "scalar": ("#0072b2", "s"),
    "turbo": ("#009e73", "D"),
    "binary": ("#d55e00", "^"),
    "product": ("#cc79a7", "v"),
    "first stage": ("#e69f00", "P"),
}


def plot_index(report: IndexReport, path: str | Path) -> None:
    """Write a PNG with two panels: recall against milliseconds, and against bytes of a point in memory.

    Rows of the Pareto front are filled and numbered as in the table; the chosen one has a ring.

    Raises:
        MissingExtra: matplotlib is not installed.
        TuneError: the folder does not exist, or the name does not end in `.png`.
    """
    path = Path(path)
    require_place(path)
    figure = load("matplotlib.figure", purpose="plotting").Figure(figsize=(10, 5.2), dpi=130, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    _draw(panels[0], report, [row.p50 for row in report.rows], "milliseconds of a query, median")
    _draw(panels[1], report, [row.memory for row in report.rows], "bytes of a point in memory")
    panels[0].set_ylabel(f"recall@{report.k} against exact search")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(_title(report), fontsize=10, x=0.01, ha="left", parse_math=False)
    figure.savefig(path, format="png")


def plot_search(report: SearchReport, path: str | Path) -> None:
    """Write a PNG of nDCG@10 against milliseconds, one point for each pipeline that was tried.

    Raises:
        MissingExtra: matplotlib is not installed.
        TuneError: the folder does not exist, or the name does not end in `.png`.
    """
    path = Path(path)
    require_place(path)
    figure = load("matplotlib.figure", purpose="plotting").Figure(figsize=(7.5, 5.2), dpi=130, layout="constrained")
    panel = figure.subplots()
    for n, row in enumerate(report.rows):
        face = "#0072b2" if row.front else "none"
        panel.plot(row.milliseconds, row.value, "o", color="#0072b2", markerfacecolor=face, markersize=5)
        for place, colour, label in ((report.present, "#222222", "now"), (report.tuned, "#d55e00", "tuned")):
            if n == place:
                panel.plot(row.milliseconds, row.value, "o", color=colour, markerfacecolor="none", markersize=14)
                panel.annotate(label, (row.milliseconds, row.value), (9, 5), textcoords="offset points", color=colour)
    panel.set_xlabel("milliseconds of a query, median")
    panel.set_ylabel(f"nDCG@10 over {report.queries} queries")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report.collection}; filled: Pareto front", fontsize=10, x=0.01, ha="left", parse_math=False)
    figure.savefig(path, format="png")


def require_place(path: Path) -> None:
    """Raise TuneError where a plot cannot be written."""
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        expected = "a name that ends in .png, in a folder that is"
        raise TuneError("cannot write the plot", got=path, expected=expected)


def _draw(panel: Any, report: IndexReport, costs: Sequence[float], label: str) -> None:
    for kind, (colour, marker) in _KINDS.items():
        points = [(cost, row) for cost, row in zip(costs, report.rows, strict=True) if _kind(row) == kind]
        for cost, row in points:
            face = colour if row.front else "none"
            panel.plot(cost, row.recall, marker, color=colour, markerfacecolor=face, markersize=7, linestyle="")
        if points:
            panel.plot([], [], marker, color=colour, label=kind)
    for number, (cost, row) in enumerate(zip(costs, report.rows, strict=True), 1):
        if row.front:
            panel.annotate(str(number), (cost, row.recall), (5, 5), textcoords="offset points", fontsize=7)
        if row == report.chosen:
            panel.plot(cost, row.recall, "o", color="#222222", markerfacecolor="none", markersize=15)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(load("matplotlib.ticker", purpose="plotting").LogLocator(subs=(1, 2, 3, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.set_xlabel(label)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def _kind(row: Row) -> str:
    storage = row.setup.storage
    if storage.first_stage:
        return "first stage"
    return storage.quantization.kind if storage.quantization else "float32 or float16"


def _title(report: IndexReport) -> str:
    query_kind = "held-out vectors" if report.held_out else "queries"
    return (
        f"{report.collection}, slot {report.slot}: {report.sample:,} vectors of {report.dimension} numbers, "
        f"{report.similarity}, as in a collection of {report.as_of:,}; {report.queries:,} {query_kind}\n"
        f"filled: Pareto front of recall, time and memory, numbered as in the table; ring: {report.rule}"
    )
