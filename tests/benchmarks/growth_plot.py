"""The plot of how cost grows with the size of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figures import Figure


def plot_growth(figures: Sequence[Figure], path: Path) -> bool:
    """Whether there was growth to show: a panel for each name and unit, a line for each way, from figures with `at`."""
    panels: dict[tuple[str, str], dict[str, dict[int, Figure]]] = {}
    for figure in figures:
        if figure.at is not None:
            panels.setdefault((figure.name, figure.unit), {}).setdefault(figure.way, {})[figure.at] = figure
    shown = {panel: lines for panel, lines in panels.items() if any(len(line) > 1 for line in lines.values())}
    if shown:
        _draw(shown, path)
    return bool(shown)


def _draw(panels: dict[tuple[str, str], dict[str, dict[int, Figure]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(
        1, len(panels), figsize=(4.5 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, ((name, unit), lines) in zip(axes[0], panels.items(), strict=True):
        for way, line in lines.items():
            sizes = sorted(line)
            medians = [line[size].median for size in sizes]
            below = [line[size].median - min(line[size].values) for size in sizes]
            above = [max(line[size].values) - line[size].median for size in sizes]
            axis.errorbar(sizes, medians, yerr=(below, above), marker="o", capsize=3, label=way)
        axis.set(xscale="log", yscale="log", title=name, xlabel="points", ylabel=unit)
        axis.grid(visible=True, which="major", alpha=0.3)
        axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=120)
    pyplot.close(drawing)
