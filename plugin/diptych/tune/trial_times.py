"""Times a query in each pipeline that is tried; pipelines whose requests have the same shape share a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from diptych.handle.snapshot import View
from diptych.protocols import Reranker
from diptych.runtime.phases import Progress
from diptych.search.pipeline import Pipeline
from diptych.search.rerank import score_pairs
from diptych.search.run import search
from diptych.search.stages import Rerank
from diptych.tune.answers import OnceScored
from diptych.tune.trials import reranker_stages, stage_key
from diptych.types import Query

TIMING = "timing"  # the stage of the progress


def shape_of(pipeline: Pipeline) -> object:
    """What decides how long a request of the pipeline takes, rerankers aside."""
    fuse, rescore = pipeline.fuse, pipeline.rescore
    weighted = bool(getattr(fuse, "weights", {}))
    kind = (type(fuse).__name__, getattr(fuse, "missing", None) is None, weighted)
    return (
        tuple((branch.slot, branch.candidates, repr(branch.params)) for branch in pipeline.retrieve),
        kind,
        (rescore.slot, rescore.candidates, rescore.weight < 1) if rescore else None,
        pipeline.diversify,
    )


def milliseconds(
    view: View, shapes: Mapping[object, Pipeline], queries: Sequence[Query], *, limit: int, progress: Progress
) -> dict[object, float]:
    """The median time of a query, encoding included; each query is searched by all pipelines, in a rotating order.

    Args:
        view: what is searched.
        shapes: a pipeline of each shape.
        queries: those that are timed; the first one also warms up.
        limit: hits of each query.
        progress: receives the progress of stage `timing`.
    """
    config = view.search_config.model_copy(update={"remember": 0})
    forgetful = replace(view, search_config=config, memo={})
    seconds: dict[object, list[float]] = {shape: [] for shape in shapes}
    order = list(shapes.items())
    progress.begin(TIMING, len(queries))
    for turn, query in enumerate([queries[0], *queries]):
        for shape, pipeline in order[turn % len(order) :] + order[: turn % len(order)]:
            begin = time.perf_counter()
            search(forgetful, [query], pipeline=pipeline, limit=min(limit, pipeline.depth or limit))
            if turn:  # the first one warms up
                seconds[shape].append(time.perf_counter() - begin)
        progress.advance(TIMING, min(turn, 1))
    return {shape: 1000 * float(np.median(times)) for shape, times in seconds.items()}


def reranker_milliseconds(
    stages: Sequence[Rerank],
    made: Mapping[str, Reranker],
    scored: Mapping[str, OnceScored],
    queries: Sequence[Query],
) -> dict[tuple[str, int], float]:
    """By reranker and number of candidates, the median time of scoring them for one query.

    Args:
        stages: of the pipeline.
        made, scored: the rerankers by `stage_key`, and those that keep which candidates they have scored.
        queries: those that are timed.
    """
    times: dict[tuple[str, int], float] = {}
    for stage in stages:
        key, reranker = stage_key(stage), made[stage_key(stage)]
        groups: dict[str, list[tuple[str, str]]] = {query.text: [] for query in queries}
        for query, text in scored[key].scores:
            if query in groups:
                groups[query].append((query, text))
        for count in {stage.passes_on, *(variant.candidates for variant in reranker_stages(stage))}:
            seconds = []
            for pairs in groups.values():
                begin = time.perf_counter()
                score_pairs(reranker, [pairs[:count]], where=f"reranker {stage.label!r}")
                seconds.append(time.perf_counter() - begin)
            times[key, count] = 1000 * float(np.median(seconds))
    return times
