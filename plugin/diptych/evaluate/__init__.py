"""How well a collection answers: judgements, measures, significance, tables and plots.

Importing this package imports nothing heavy; ir-measures, scipy and matplotlib (`pip install 'diptych[eval]'`) are
loaded by the functions that need them.
"""

from __future__ import annotations

from diptych.evaluate.display import table
from diptych.evaluate.measures import DEFAULT_METRICS
from diptych.evaluate.qrels import Qrels
from diptych.evaluate.queries import read_beir, read_queries
from diptych.evaluate.scoring import Evaluation, evaluate

__all__ = [
    "DEFAULT_METRICS",
    "Evaluation",
    "Qrels",
    "evaluate",
    "read_beir",
    "read_queries",
    "table",
]
