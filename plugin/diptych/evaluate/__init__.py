"""Measures how well a collection answers: relevance judgements, measures, significance tests and tables.

Begin with `qrels` and `scoring`, then `comparison` for two runs side by side. Importing this package imports nothing
heavy; ir-measures and scipy (`pip install 'diptych[eval]'`) are loaded by the functions that use them.
"""

from __future__ import annotations

from diptych.evaluate.ann import ann_recall, ann_recall_per_query
from diptych.evaluate.comparison import Comparison, Difference, compare
from diptych.evaluate.display import comparison_table, table, to_data, to_json
from diptych.evaluate.instructions import p_mrr, p_mrr_per_query
from diptych.evaluate.metric_names import DEFAULT_METRICS
from diptych.evaluate.minimal_pairs import MinimalPair, Preference, minimal_pairs, picture_pairs, preferences
from diptych.evaluate.qrels import Qrels
from diptych.evaluate.queries import read_beir, read_queries
from diptych.evaluate.score_pool import ScoreBin, ScorePool, Threshold, pooled_auc, pooled_f1
from diptych.evaluate.scoring import Evaluation, evaluate
from diptych.evaluate.slices import Slice, SliceDifference, differences_by_slice, slices_of
from diptych.evaluate.trec import from_trec, to_trec

__all__ = [
    "DEFAULT_METRICS",
    "Comparison",
    "Difference",
    "Evaluation",
    "MinimalPair",
    "Preference",
    "Qrels",
    "ScoreBin",
    "ScorePool",
    "Slice",
    "SliceDifference",
    "Threshold",
    "ann_recall",
    "ann_recall_per_query",
    "compare",
    "comparison_table",
    "differences_by_slice",
    "evaluate",
    "from_trec",
    "minimal_pairs",
    "p_mrr",
    "p_mrr_per_query",
    "picture_pairs",
    "pooled_auc",
    "pooled_f1",
    "preferences",
    "read_beir",
    "read_queries",
    "slices_of",
    "table",
    "to_data",
    "to_json",
    "to_trec",
]
