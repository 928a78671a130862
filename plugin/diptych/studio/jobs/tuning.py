"""The search tuner as a job: all pipelines that were tried by quality and time, and the diff of the config for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.collection.collection import Collection
from diptych.config import load_config
from diptych.errors import ConfigError, DiptychError
from diptych.studio.jobs.query_sets import QuerySet
from diptych.studio.jobs.queue import Job
from diptych.tune import Budget, ConfigChange, SearchReport, SearchRow, config_change, search_change, tune_search
from diptych.tune.search_report import pipeline_label

Z = 1.96  # standard errors on either side of a mean that a 95% interval has


def tuned(collection: Collection, judged: QuerySet, budget_ms: float | None, job: Job) -> dict[str, Any]:
    """What the tuner found, as JSON values. The collection is only read, and no config is written.

    Args:
        collection: whose search is tuned.
        judged: queries with judgements.
        budget_ms: the longest time of the median query; None for no limit.
        job: is told the progress.

    Raises:
        EvaluationError, TuneError, TenantError: there is nothing to choose by, or between.
        JobCancelled: nobody wants it any more.
    """
    queries, qrels = judged.judged()
    job.begin("preparing", None)
    found = tune_search(collection.handle, queries, qrels, budget=Budget(budget_ms), progress=job)
    job.begin("writing the changes of the config", None)
    changes, remark = _changes(collection, found)
    chosen = changes.get(found.chosen)
    left_out = [f"{name} is left out: its scores cannot be computed once" for name in found.left_out]
    return {
        "verdict": found.verdict,
        "baseline": found.present,
        "chosen": found.chosen,
        "passed": found.passed,
        "queries": found.queries,
        "gains": [f"{gain.name}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]" for gain in found.gains],
        "trials": [_trial(row, n, found, changes.get(n)) for n, row in enumerate(found.rows)],
        "diff": _diff(chosen) if chosen and found.passed else "",
        "patch": any(change.patch for change in changes.values()),
        "file": path.name if (path := _file(collection)) else "",
        "remarks": [*left_out, *([remark] if remark else [])],
        "seconds": found.seconds,
    }


def _trial(row: SearchRow, number: int, found: SearchReport, change: ConfigChange | None) -> dict[str, Any]:
    return {
        "label": pipeline_label(row.pipeline),
        "quality": row.value,
        "low": row.value - Z * row.error,
        "high": row.value + Z * row.error,
        "milliseconds": row.milliseconds,
        "front": row.front,
        "chosen": number == found.chosen,
        "tuned": number == found.tuned,
        "present": number == found.present,
        "diff": _diff(change) if change else "",
    }


def _diff(change: ConfigChange) -> str:
    return change.patch or change.diff


def _changes(collection: Collection, found: SearchReport) -> tuple[dict[int, ConfigChange], str]:
    """The change of the config for each pipeline that is chosen or on the front, and why there is none."""
    wanted = {found.chosen, found.tuned, *(n for n, row in enumerate(found.rows) if row.front)} - {found.present}
    try:
        path = _file(collection)
        if path is None:
            settings = collection.handle.search_config
            return {n: search_change(settings, found, row=n) for n in wanted}, ""
        _require_same(collection, path)
        registry = collection.handle.registry
        return {n: config_change(path, found, registry, row=n) for n in wanted}, ""
    except (DiptychError, OSError) as error:
        return {}, f"no diff of the config: {error}"


def _file(collection: Collection) -> Path | None:
    """The file of the collection's config; None where it was opened without one."""
    config = collection.handle.config
    return config.source.path if config is not None else None


def _require_same(collection: Collection, path: Path) -> None:
    """Raise ConfigError if the file says something else than what is served."""
    config = collection.handle.config
    if config is None or load_config(path).digest() != config.digest():
        do = "restart Studio, which then reads the file again"
        raise ConfigError("the file has changed since Studio read it", where=path, do=do)
    if collection.handle.search_config.rerank != config.search.rerank:
        do = "the collection was changed meanwhile: see diptych plan, then start Studio again"
        raise ConfigError("the collection has other rerankers than the file", where=path, do=do)
