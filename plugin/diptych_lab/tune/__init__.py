"""Measures which settings suit a collection: of its indexes on its own vectors, of its search on judged queries.

Begin with `index`: the settings to try, and small collections that hold a `sample` of the vectors and answer with them.
For searches begin with `search`, which asks slots and rerankers once: `trials` computes from the answers what any
pipeline is worth and chooses, `search_report` says it and puts it into a config. `encoder` measures encoders, widths
and bits.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych_lab.tune.encoder import EncoderBudget, EncoderChoice, EncoderReport, EncoderRow, choices_of, tune_encoder
from diptych_lab.tune.index import IndexReport, IndexRow, Least, Rule, Setup, grid, tune_index
from diptych_lab.tune.search import tune_search
from diptych_lab.tune.search_report import (
    ConfigChange,
    SearchReport,
    SearchRow,
    config_change,
    edited,
    write_config,
)

__all__ = [
    "ConfigChange",
    "EncoderBudget",
    "EncoderChoice",
    "EncoderReport",
    "EncoderRow",
    "IndexReport",
    "IndexRow",
    "Least",
    "Rule",
    "SearchReport",
    "SearchRow",
    "Setup",
    "choices_of",
    "config_change",
    "edited",
    "grid",
    "tune_encoder",
    "tune_index",
    "tune_search",
    "write_config",
]
