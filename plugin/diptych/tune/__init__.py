"""Measures which settings suit a collection: of its indexes on its own vectors, of its search on judged queries.

Begin with `index`. `grid` lists the settings to try, `sample` draws vectors and exact answers, `scratch_collections`
holds them, `reports` picks one. For searches begin with `search`: `answers` asks slots and rerankers, `slot_candidates`
holds the slots' candidates, `trials` lists the trials and computes their values, `choose` decides, `config_change` puts
it into a config. `rerank` measures what a reranker's calls buy, `encoder` which encoders, widths and bits do.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.tune.config_change import ConfigChange, config_change, edited, search_change, write_config
from diptych.tune.encoder import choices_of, tune_encoder
from diptych.tune.encoder_report import EncoderBudget, EncoderChoice, EncoderReport, EncoderRow
from diptych.tune.grid import Setup, grid
from diptych.tune.index import LEAST, Least, Rule, tune_index
from diptych.tune.reports import IndexReport, RerankGain, RerankReport, RerankRow, Row
from diptych.tune.rerank import tune_rerank
from diptych.tune.search import tune_search
from diptych.tune.search_report import Budget, SearchReport, SearchRow

__all__ = [
    "LEAST",
    "Budget",
    "ConfigChange",
    "EncoderBudget",
    "EncoderChoice",
    "EncoderReport",
    "EncoderRow",
    "IndexReport",
    "Least",
    "RerankGain",
    "RerankReport",
    "RerankRow",
    "Row",
    "Rule",
    "SearchReport",
    "SearchRow",
    "Setup",
    "choices_of",
    "config_change",
    "edited",
    "grid",
    "search_change",
    "tune_encoder",
    "tune_index",
    "tune_rerank",
    "tune_search",
    "write_config",
]
