"""Measures which settings suit a collection: of its indexes on its own vectors, of its search on judged queries.

Begin with `index`. `grid` lists the settings to try, `sample` draws vectors and exact answers, `scratch_collections`
holds them, `reports` picks one. For searches begin with `search`: `answers` asks slots and rerankers, `slot_candidates`
holds the slots' candidates, `trials` lists the trials and computes their values, `choose` decides, `config_change` puts
it into a config. `rerank` measures what a reranker's calls buy, `encoder` which encoders, widths and bits do.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych_lab.tune.config_change import ConfigChange, config_change, edited, search_change, write_config
from diptych_lab.tune.encoder import choices_of, tune_encoder
from diptych_lab.tune.encoder_report import EncoderBudget, EncoderChoice, EncoderReport, EncoderRow
from diptych_lab.tune.grid import Setup, grid
from diptych_lab.tune.index import LEAST, Least, Rule, tune_index
from diptych_lab.tune.reports import IndexReport, RerankGain, RerankReport, RerankRow, Row
from diptych_lab.tune.rerank import tune_rerank
from diptych_lab.tune.search import tune_search
from diptych_lab.tune.search_report import Budget, SearchReport, SearchRow

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
