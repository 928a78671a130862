"""Names of pipelines: each single slot, and a pipeline up to each of its stages."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.errors import SearchError
from diptych.handle.snapshot import View
from diptych.search.pipeline import Pipeline
from qdrant_edge_client.value_errors import nearest


def called(name: str, view: View) -> Pipeline:
    """The pipeline with this name: a single slot, or one of the `parts` of the view's pipeline.

    Raises:
        SearchError: there is none.
    """
    if name in view.slots:
        return Pipeline.of_slot(name, view.search_config)
    known = parts(Pipeline.from_config(view.search_config, view.slots))
    if name not in known:
        names = dict.fromkeys([*view.slots, *known])
        raise SearchError(
            f"there is no pipeline {name!r}",
            where=f"collection {view.name!r}",
            expected=", ".join(repr(own) for own in names),
            do=nearest(name, names),
        )
    return known[name]


def parts(pipeline: Pipeline) -> dict[str, Pipeline]:
    """Each retrieved slot alone, then their fusion, then with each further stage, up to the whole pipeline.

    The names are `dense`, `lexical`, `rrf`, `rrf > late`, `rrf > late > cross-encoder`: those of `diptych evaluate`.
    """
    found = {branch.slot: Pipeline((branch,)) for branch in pipeline.retrieve}
    grown, name = Pipeline(pipeline.retrieve), pipeline.retrieve[0].slot
    for stage, label in zip(pipeline.stages, _labels(pipeline), strict=True):
        grown = grown >> stage
        name = label if stage is pipeline.fuse else f"{name} > {label}"
        found[name] = grown
    return found


def _labels(pipeline: Pipeline) -> Iterator[str]:
    if pipeline.fuse:
        yield pipeline.fuse.label
    if pipeline.rescore:
        yield pipeline.rescore.slot
    if pipeline.boost:
        yield pipeline.boost.label
    if pipeline.diversify:
        yield "mmr"
    yield from (stage.label for stage in pipeline.rerank)
