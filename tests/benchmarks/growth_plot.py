"""The plot of how cost grows with the size of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figures import Figure

COLUMNS = 3
LINEAR = ("recall",)  # panels whose values say nothing on a logarithmic scale
APART = ("MiB before", "cost of a point", "query")  # of the table alone: where memory began, and ratios of two sizes


def plot_growth(figures: Sequence[Figure], path: Path) -> bool:
    """Whether there was growth to show: a panel for each name and unit, a line for each way, from figures with `at`."""
    panels: dict[tuple[str, str], dict[str, dict[int, Figure]]] = {}
    for figure in figures:
        if figure.at is not None and figure.name not in APART:
            panels.setdefault((figure.name, figure.unit), {}).setdefault(figure.way, {})[figure.at] = figure
    shown = {panel: lines for panel, lines in panels.items() if any(len(line) > 1 for line in lines.values())}
    if shown:
        _draw(shown, path)
    return bool(shown)


def _draw(panels: dict[tuple[str, str], dict[str, dict[int, Figure]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(panels) // COLUMNS)
    drawing, axes = pyplot.subplots(
        rows, COLUMNS, figsize=(4 * COLUMNS, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[len(panels) :]:
        unused.set_visible(False)
    for axis, ((name, unit), lines) in zip(axes.flat, panels.items(), strict=False):
        for way, line in lines.items():
            sizes = sorted(line)
            medians = [line[size].median for size in sizes]
            below = [line[size].median - min(line[size].values) for size in sizes]
            above = [max(line[size].values) - line[size].median for size in sizes]
            axis.errorbar(sizes, medians, yerr=(below, above), marker="o", capsize=3, label=way)
        yscale = "linear" if name.startswith(LINEAR) else "log"
        axis.set(xscale="log", yscale=yscale, title=name, xlabel="points", ylabel=unit)
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=90)
    pyplot.close(drawing)
