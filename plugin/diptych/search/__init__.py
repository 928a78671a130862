"""Search: runs queries through a pipeline, in batches. `Retrieve(...) + Retrieve(...) >> Rrf() >> Rerank(...)`.

Begin with `pipeline` (what a pipeline is; its stages are those of `config.stages`), then `run`. `retrieve` encodes the
queries and sends them to Qdrant in one request, which `query` builds; fusions that diptych computes need more. `rerank`
runs the rerankers. `excerpts` finds a hit's passages and highlights. `microbatch` joins queries that arrive together.
"""

from __future__ import annotations

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.config.stages import (
    Dbsf,
    Diversify,
    EarlyExit,
    FieldBoost,
    Fusion,
    GeoBoost,
    Linear,
    NumberBoost,
    RangeBoost,
    RecencyBoost,
    Rerank,
    Rescore,
    Rrf,
)
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View
from diptych.search.options import (
    ExplainOptions,
    SearchOptions,
    VectorOptions,
    check_options,
    explain_options,
    option_fields,
    spelled_out,
)
from diptych.search.pipeline import Boost, Pipeline, Retrieve, Stage, search_params
from diptych.search.rerank import score, score_pairs
from diptych.search.run import Answers, HitGroup, HitGroups, Hits, search, search_groups

__all__ = [
    "Answers",
    "Boost",
    "CollectionHandle",
    "Dbsf",
    "Diversify",
    "EarlyExit",
    "ExplainOptions",
    "FieldBoost",
    "Fusion",
    "GeoBoost",
    "HitGroup",
    "HitGroups",
    "Hits",
    "Linear",
    "NumberBoost",
    "Pipeline",
    "RangeBoost",
    "RecencyBoost",
    "Rerank",
    "Rescore",
    "Retrieve",
    "Rrf",
    "SearchOptions",
    "Stage",
    "VectorOptions",
    "View",
    "check_options",
    "explain_options",
    "option_fields",
    "score",
    "score_pairs",
    "search",
    "search_groups",
    "search_params",
    "spelled_out",
]
