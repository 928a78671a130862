"""`plot_differences`: a picture of where a run wins and loses against the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import EvaluationError
from diptych.evaluate._extras import load
from diptych.evaluate.comparison import Comparison, Difference

_WIN, _LOSS, _MEAN = "#0072b2", "#d55e00", "#222222"  # Okabe and Ito's palette: told apart by colour-blind readers


def plot_differences(comparison: Comparison, path: str | Path) -> None:
    """Write a PNG with a panel for each difference: queries sorted by it, its mean and the mean's interval.

    Raises:
        MissingExtra: matplotlib is not installed.
        EvaluationError: the folder does not exist, or the name does not end in `.png`.
    """
    path = Path(path)
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise EvaluationError(
            "cannot write the plot", got=path, expected="a name that ends in .png, in a folder that is"
        )
    figure_module = load("matplotlib.figure", purpose="plotting")
    count = len(comparison.differences)
    figure = figure_module.Figure(figsize=(9, 0.6 + 3.1 * count), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    panels = figure.subplots(count, 1, squeeze=False)[:, 0]
    bound = 1.08 * max(_reach(difference) for difference in comparison.differences)
    for panel, difference in zip(panels, comparison.differences, strict=True):
        _draw(panel, difference, comparison, bound)
    panels[-1].set_xlabel("judged queries, sorted by their difference")
    figure.savefig(path, format="png")


def _reach(difference: Difference) -> float:
    """The largest height in a panel; never 0, so that an axis can be drawn."""
    return max(0.01, *(abs(value) for value in difference.per_query.values()))


def _draw(panel: Any, difference: Difference, comparison: Comparison, bound: float) -> None:
    values = np.sort(np.array(list(difference.per_query.values())))[::-1]
    edges = np.arange(len(values) + 1)
    panel.stairs(np.maximum(values, 0), edges, fill=True, color=_WIN, label=f"better: {difference.wins} queries")
    panel.plot([], [], " ", label=f"equal: {difference.ties} queries")
    panel.stairs(np.minimum(values, 0), edges, fill=True, color=_LOSS, label=f"worse: {difference.losses} queries")
    _draw_mean(panel, difference, comparison.confidence)
    panel.axhline(0, color=_MEAN, linewidth=0.6)
    panel.set(xlim=(0, len(values)), ylim=(-bound, bound), ylabel=f"difference in {comparison.metric}")
    panel.set_title(_title(difference, comparison), fontsize=10, loc="left", parse_math=False)
    panel.grid(axis="y", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _draw_mean(panel: Any, difference: Difference, confidence: float) -> None:
    interval = f"{100 * confidence:g}% interval\n{difference.low:+.3f} to {difference.high:+.3f}"
    panel.axhline(difference.mean, color=_MEAN, linewidth=1.2, linestyle="--", label=f"mean {difference.mean:+.3f}")
    panel.axhspan(difference.low, difference.high, color=_MEAN, alpha=0.18, linewidth=0, label=interval, zorder=0)
    for end in (difference.low, difference.high):  # the band itself lies behind the bars, to leave their colours alone
        panel.axhline(end, color=_MEAN, linewidth=0.7, linestyle=":")


def _title(difference: Difference, comparison: Comparison) -> str:
    corrected = " (Holm)" if len(comparison.differences) > 1 else ""
    p_text = f"p = {difference.adjusted:.4f}" if difference.adjusted >= 0.0005 else "p < 0.0005"
    return f"{difference.name} minus {comparison.baseline}, {len(difference.per_query)} queries, {p_text}{corrected}"
