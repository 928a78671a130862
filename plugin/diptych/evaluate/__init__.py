"""Measures how well a collection answers: relevance judgements, measures, significance tests and tables.

Begin with `ask`, which searches and takes times, and `qrels`; `scoring` computes measures, `comparison` sets two runs
side by side. ir-measures and scipy (`pip install 'diptych[eval]'`) are loaded by the functions that use them.
"""

from __future__ import annotations

from diptych.evaluate.ask import ask, fields_of_queries, times
from diptych.evaluate.comparison import (
    Comparison,
    Difference,
    Slice,
    SliceDifference,
    compare,
    differences_by_slice,
    interval,
    slices_of,
    table,
    to_data,
    to_json,
)
from diptych.evaluate.qrels import Qrels, beir_file, read_beir, read_queries
from diptych.evaluate.scoring import (
    DEFAULT_METRICS,
    Evaluation,
    ann_recall,
    bootstrap_means,
    cutoff,
    evaluate,
    from_trec,
    ordered,
    parse_metrics,
    percentile_interval,
    to_trec,
)

__all__ = [
    "DEFAULT_METRICS",
    "Comparison",
    "Difference",
    "Evaluation",
    "Qrels",
    "Slice",
    "SliceDifference",
    "ann_recall",
    "ask",
    "beir_file",
    "bootstrap_means",
    "compare",
    "cutoff",
    "differences_by_slice",
    "evaluate",
    "fields_of_queries",
    "from_trec",
    "interval",
    "ordered",
    "parse_metrics",
    "percentile_interval",
    "read_beir",
    "read_queries",
    "slices_of",
    "table",
    "times",
    "to_data",
    "to_json",
    "to_trec",
]
