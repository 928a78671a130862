"""Reads the input of `diptych tune search`, shows its report and writes the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.evaluate import judged_queries
from diptych.cli.output import show, write_json
from diptych.errors import EvaluationError, TuneError

if TYPE_CHECKING:
    from diptych import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Qrels
    from diptych.runtime.phases import Progress
    from diptych.types import Query
    from diptych_lab.tune import Budget, ConfigChange, SearchReport

SAMPLE = 200
SYNTHETIC = "words of the documents favour lexical slots: judge real queries before you trust it"


def budget_of(duration: str | None, cost: float | None, prices: Sequence[str]) -> Budget:
    """The budget of the options `--budget 50ms`, `--max-cost 2` and `--price cohere=0.02`.

    Raises:
        SearchError, TuneError: a value that cannot be read.
    """
    from diptych.config.section import require_duration
    from diptych_lab.tune import Budget

    by_reranker: dict[str, float] = {}
    for price in prices:
        name, _, number = price.partition("=")
        try:
            by_reranker[name] = float(number)
        except ValueError:
            expected = "RERANKER=PRICE, such as cohere=0.02"
            raise TuneError("the price cannot be read", where="--price", got=price, expected=expected) from None
    longest = None if duration is None else 1000 * require_duration("the budget", duration, "--budget")
    return Budget(longest, cost, by_reranker)


def judged_or_synthetic(
    opened: Collection,
    settings: EvaluateConfig,
    folder: Path | None,
    queries: Path | None,
    qrels: Path | None,
    *,
    synthetic: bool,
    write: bool,
) -> tuple[list[Query], Qrels, bool]:
    """The judged queries; if none are named, synthetic ones, each answered by the document that it was cut from.

    The last value says whether they are synthetic. Synthetic queries favour lexical slots, so a config is written from
    them only if `synthetic` is set.

    Raises:
        EvaluationError: judgements cannot be read, or a config is to be written without any.
    """
    if not synthetic and any((folder, queries, qrels, settings.queries, settings.qrels)):
        return *judged_queries(settings, folder, queries, qrels), False
    if write and not synthetic:
        do = "give a BEIR folder, or --queries and --qrels; or --synthetic to use synthetic queries"
        raise EvaluationError("no judged queries are named", where="--write", do=do)
    from diptych.evaluate import Qrels
    from diptych.swap import sample_documents, sample_points
    from diptych.types import Query

    view = opened.handle.now()
    sampled = sample_documents(view, sample_points(view.client, view.name, SAMPLE))
    documents = [own for own in sampled if own.item]
    made = [Query(own.excerpt, own.id) for own in documents]
    return made, Qrels({own.id: {own.id: 1} for own in documents}), True


def run(
    opened: Collection,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    depths: Sequence[int],
    budget: Budget,
    folder: Path | None,
    progress: Progress,
) -> SearchReport:
    """Run the tuner on the judged queries."""
    from diptych_lab.tune import tune_search

    return tune_search(opened.handle, queries, qrels, depths=depths, budget=budget, folder=folder, progress=progress)


def show_search(
    found: SearchReport,
    change: ConfigChange,
    *,
    synthetic: bool,
    write: bool,
    config: Path,
    as_json: bool,
) -> None:
    """The best pipelines as a table, the verdict, and the change of the config that sets up the chosen one."""
    written = write and found.passed
    if as_json:
        return write_json(document(found, change, synthetic=synthetic, written=written))
    shown, tail = found.display(), list[str]()
    if written:
        gate = "" if found.fits else "; its gate knows no budget: if it refuses the loss, diptych apply --ignore-gate"
        tail = [f"wrote {change.keys} to {config}; to make it live: diptych plan, then diptych apply{gate}"]
    elif write:
        tail = [f"{config} stays as it is: no change passed, so nothing was written"]
    warnings = (SYNTHETIC,) if synthetic else ()
    return show(replace(shown, parts=(*shown.parts, *change.diff.splitlines(), *tail), warnings=warnings))


def document(found: SearchReport, change: ConfigChange, *, synthetic: bool, written: bool) -> dict[str, Any]:
    """The report as JSON values."""
    rows = [
        {
            "pipeline": row.name,
            "config": row.config(),
            **{name: getattr(row, name) for name in ("value", "error", "milliseconds", "cost", "front")},
        }
        for row in found.rows
    ]
    facts = {name: getattr(found, name) for name in ("collection", "queries", "present", "chosen", "tuned", "passed")}
    gains = [dataclasses.asdict(gain) for gain in found.gains]
    facts |= {name: getattr(found, name) for name in ("fits", "rerankers", "left_out", "pairs")}
    more = {"verdict": found.verdict, "seconds": found.seconds, "calls": found.calls}
    more |= {"synthetic": synthetic, "diff": change.diff, "written": change.keys if written else ""}
    return {**facts, "rows": rows, "gains": gains, **more}
