"""Search: runs queries through a pipeline, in batches. `Retrieve(...) + Retrieve(...) >> Rrf() >> Rerank(...)`.

Begin with `pipeline` and `stages` (what a pipeline is), then `run`. `retrieve` encodes the queries and sends one
request to Qdrant, which `qdrant_query` builds; `rerank` runs the rerankers. `microbatch` joins queries that arrive
together.
"""

from __future__ import annotations

from diptych.search.groups import HitGroup, search_groups
from diptych.search.options import SearchOptions
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.rerank import score
from diptych.search.run import search
from diptych.search.stages import Dbsf, Diversify, EarlyExit, Fusion, Linear, Rerank, Rescore, Rrf, Stage

__all__ = [
    "Dbsf",
    "Diversify",
    "EarlyExit",
    "Fusion",
    "HitGroup",
    "Linear",
    "Pipeline",
    "Rerank",
    "Rescore",
    "Retrieve",
    "Rrf",
    "SearchOptions",
    "Stage",
    "score",
    "search",
    "search_groups",
]
