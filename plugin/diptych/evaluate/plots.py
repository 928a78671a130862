"""Plots: where a run wins and loses against the baseline, and how well its scores predict relevance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import EvaluationError
from diptych.evaluate._extras import load
from diptych.evaluate.comparison import Comparison, Difference
from diptych.evaluate.score_pool import ScorePool

_WIN, _LOSS, _MEAN = "#0072b2", "#d55e00", "#222222"  # Okabe and Ito's palette: told apart by colour-blind readers


def plot_differences(comparison: Comparison, path: str | Path) -> None:
    """Write a PNG with a panel for each difference: queries sorted by it, its mean and the mean's interval.

    Raises:
        MissingExtra: matplotlib is not installed.
        EvaluationError: the folder does not exist, or the name does not end in `.png`.
    """
    path = _png(path)
    figure, panels = _panels(len(comparison.differences))
    bound = 1.08 * max(_reach(difference) for difference in comparison.differences)
    for panel, difference in zip(panels, comparison.differences, strict=True):
        _draw(panel, difference, comparison, bound)
    panels[-1].set_xlabel("judged queries, sorted by their difference")
    figure.savefig(path, format="png")


def plot_calibration(pools: Sequence[ScorePool], path: str | Path, *, bins: int = 10) -> None:
    """Write a PNG with a panel for each run: the share of relevant documents by score, and how many there are.

    Where the share rises with the score and is the same for all queries, one threshold serves them all.

    Raises:
        MissingExtra: matplotlib is not installed.
        EvaluationError: there is no pool or bin, the folder does not exist, or the name does not end in `.png`.
    """
    path = _png(path)
    if not pools:
        raise EvaluationError("there is nothing to plot", expected="a ScorePool or more")
    figure, panels = _panels(len(pools))
    for panel, pool in zip(panels, pools, strict=True):
        _draw_bins(panel, pool, bins)
    panels[-1].set_xlabel("score")
    figure.savefig(path, format="png")


def _png(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise EvaluationError(
            "cannot write the plot", got=path, expected="a name that ends in .png, in a folder that is"
        )
    return path


def _panels(count: int) -> tuple[Any, Any]:
    """A figure with so many panels, one below the other."""
    figure_module = load("matplotlib.figure", purpose="plotting")
    figure = figure_module.Figure(figsize=(9, 0.6 + 3.1 * count), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    return figure, figure.subplots(count, 1, squeeze=False)[:, 0]


def _draw_bins(panel: Any, pool: ScorePool, count: int) -> None:
    bins = pool.bins(count)
    edges = np.array([bins[0].low, *(one.high for one in bins)])
    counts = panel.twinx()
    counts.stairs([one.count for one in bins], edges, fill=True, color=_MEAN, alpha=0.12, label="documents")
    counts.set(yscale="log", ylabel="documents, log scale", ylim=(0.8, None))
    filled = [one for one in bins if one.count]
    middles, shares = [(one.low + one.high) / 2 for one in filled], [one.share for one in filled]
    reach = np.abs(np.array([one.interval for one in filled]).T - np.array(shares))
    panel.errorbar(middles, shares, yerr=reach, marker="o", capsize=3, color=_WIN, label="relevant, 95% interval")
    best = pool.best
    panel.axvline(
        best.score, color=_LOSS, linestyle="--", linewidth=1.2, label=f"best F1 {best.f1:.3f}\nat {best.score:.4g}"
    )
    panel.set(ylim=(0, 1.02), ylabel="share that is relevant", zorder=counts.get_zorder() + 1)
    panel.patch.set_visible(False)
    panel.set_title(f"{pool.name}: pooled AUC {pool.auc:.3f}", fontsize=10, loc="left", parse_math=False)
    panel.grid(axis="y", alpha=0.25)
    handles = [side.get_legend_handles_labels() for side in (panel, counts)]
    legend = {"loc": "upper left", "bbox_to_anchor": (1.08, 1.0), "fontsize": 8, "frameon": False}
    panel.legend(handles[0][0] + handles[1][0], handles[0][1] + handles[1][1], **legend)


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
