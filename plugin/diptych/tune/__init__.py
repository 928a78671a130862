"""Measures which index settings suit a collection: recall, latency and bytes on a sample of its own vectors.

Begin with `index`. `grid` lists the settings to try, `sample` draws vectors and exact answers, `scratch_collections`
holds them, `reports` picks one. Matplotlib (`pip install 'diptych[eval]'`) is imported only by `plot_index`.
"""

from __future__ import annotations

from diptych.tune.grid import Setup, grid
from diptych.tune.index import LEAST, Least, Rule, tune_index
from diptych.tune.plots import plot_index
from diptych.tune.reports import IndexReport, Row

__all__ = ["LEAST", "IndexReport", "Least", "Row", "Rule", "Setup", "grid", "plot_index", "tune_index"]
