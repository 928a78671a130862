"""What settings a collection could have, measured: recall, latency and bytes on its own vectors.

Importing this package imports nothing heavy; matplotlib (`pip install 'diptych[eval]'`) is loaded by `plot_index`.
"""

from __future__ import annotations

from diptych.tune.grid import Setup, grid
from diptych.tune.index import LEAST, Least, Rule, tune_index
from diptych.tune.plots import plot_index
from diptych.tune.reports import IndexReport, Row

__all__ = ["LEAST", "IndexReport", "Least", "Row", "Rule", "Setup", "grid", "plot_index", "tune_index"]
