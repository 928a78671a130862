"""`diptych evaluate`: how well each slot and the whole pipeline answer judged queries, and what each stage adds.

Also reads the judged queries that a command's options name, or else the config, and opens the collections of several
configs, for `evaluate`, `judge` and `tune`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.options import (
    CONFIG,
    ConfigsOption,
    JsonOption,
    JudgedFolder,
    QrelsOption,
    QueriesOption,
    TenantOption,
    option,
)
from diptych.cli.output import Bars, show, stderr, write_json
from diptych.cli.run_command import Session
from diptych.cli.search import note_empty_tenant
from diptych.display import Display, Table, differences, say
from diptych.errors import EvaluationError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Comparison, Evaluation, Qrels
    from diptych.evaluate.ask import Searched
    from diptych.types import Query, Run


DEEPEST = 1000  # ranks, as in TREC, without a cutoff
TIMED = 20  # queries that each pipeline is timed with


def evaluate(
    session: Session,
    folder: JudgedFolder = None,
    config: ConfigsOption = None,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    metrics: Annotated[
        list[str] | None,
        option("Such as nDCG@10,MAP.", "--metrics", "-m", metavar="NAMES"),
    ] = None,
    only: Annotated[
        list[str] | None,
        option("Only this run of the table; with several configs 'CONFIG: RUN'; repeat for more.", metavar="RUN"),
    ] = None,
    baseline: Annotated[
        str | None, option("The run to compare with; by default the best single slot.", metavar="RUN")
    ] = None,
    exact: Annotated[bool, option("Also search exactly, to measure what the graph misses.", "--exact")] = False,
    fusion: Annotated[
        list[str] | None, option("Also fuse the same slots by rrf, dbsf or linear.", metavar="NAMES")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate each slot alone, their fusion and each later stage, and mark significant differences.

    [dim]Examples:[/dim]

      diptych evaluate

      diptych evaluate examples/debian --metrics nDCG@10,MAP --exact

      diptych evaluate --only dense --only dbsf

      diptych evaluate --fusion rrf,linear

      diptych evaluate --config diptych.yaml --config other.yaml
    """
    from diptych.evaluate.ask import absent_documents

    configs = list(dict.fromkeys(config or [CONFIG]))
    settings = session.config(configs[0]).evaluate
    found, judged = judged_queries(settings, folder, queries, qrels)
    names = split_names(metrics or settings.metrics)
    with opened(session, configs) as collections:
        by_label = dict(zip(labels(configs), collections, strict=True))
        asked = (only or [], split_names(fusion or []))
        outcome = _evaluate(by_label, found, judged, names, *asked, with_exact=exact, tenant=tenant)
        note_empty_tenant(collections[0], tenant)
        if sentence := absent_documents(collections[0].handle, judged, tenant):
            say(stderr(), sentence, "yellow")
    outcome = outcome.compared(baseline, names)
    from diptych.evaluate import table, to_data

    if as_json:
        recalls = {"at": outcome.recall_at, "recalls": dict(outcome.recalls)} if outcome.recalls else None
        data = to_data(outcome.evaluations, outcome.comparisons)
        stages = [stage.as_dict() for stage in outcome.stages]
        return write_json({**data, "approximate_search": recalls, "stages": stages, "advice": outcome.advice})
    parts = [*table(outcome.evaluations, comparisons=outcome.comparisons).parts]
    parts += [
        f"{name}: finds {own:.4f} of the exact first {outcome.recall_at}" for name, own in outcome.recalls.items()
    ]
    parts += [own.sentence(found.name) for own in outcome.comparisons[:1] for found in own.differences]
    parts += [stage_table(outcome.stages)] if outcome.stages else []
    parts += [f"advice: {advice}" for advice in outcome.advice]
    warnings = ["nothing is compared: only one query is judged"] if outcome.single_query else ()
    return show(Display("", parts, warnings))


def split_names(names: Sequence[str]) -> list[str]:
    """Names given one by one or with commas between, each once; commas in brackets, as in `RBP(p=0.8,rel=1)`, stay."""
    found = (name.strip() for text in names for name in re.findall(r"(?:[^,(]|\([^()]*+\)|\()++", text))
    return list(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True, slots=True)
class StageEffect:
    """What the last stage of a run changes.

    Args:
        name: the run's name.
        comparison: of the run with the one before it; before a fusion is the best of its slots.
        change: of the config, that leaves the stage out.
        milliseconds: median time of a query of both, the run's first; empty if not measured.
    """

    name: str
    comparison: Comparison
    change: str
    milliseconds: Sequence[float] = ()

    @property
    def advice(self) -> str:
        """To leave the stage out, unless it is shown to help; "" then."""
        found, before, metric = self.comparison.of(self.name), self.comparison.baseline, self.comparison.metric
        shown = self.comparison.significant(self.name)
        if shown and found.mean > 0:
            return ""
        costs = ", {:.1f} ms a query after {:.1f} ms".format(*self.milliseconds) if self.milliseconds else ""
        figures = f"{metric} {found.mean:+z.3f} [{found.low:+z.3f}, {found.high:+z.3f}]{costs}"
        verdict = "is worse than" if shown else "is not shown to be better than"
        return f"{self.name} {verdict} {before} ({figures}): {'' if shown else 'judge more queries, or '}{self.change}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found, times = self.comparison.of(self.name), list(self.milliseconds) or None
        figures = {"mean": found.mean, "interval": [found.low, found.high], "p_value": found.p_value}
        return {"run": self.name, "before": self.comparison.baseline, **figures, "milliseconds": times}


def stage_table(stages: Sequence[StageEffect]) -> Table:
    """Each stage against the one before."""
    found = [stage.comparison.of(stage.name) for stage in stages]
    cells = differences([(own.mean, own.low, own.high) for own in found], digits=3)
    rows = [
        (stage.name, stage.comparison.baseline, *texts, *(f"{own:.1f} ms" for own in stage.milliseconds or ()))
        for stage, texts in zip(stages, cells, strict=True)
    ]
    metric, level = stages[0].comparison.metric, f"{100 * stages[0].comparison.confidence:g}% interval"
    columns = ("stage", "before", f"{metric} minus before", level, "a query", "a query before")
    return Table(columns[: len(rows[0])], rows, numbers=range(2, len(rows[0])))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Evaluated pipelines with the paired tests between them, their times and the recall of approximate search."""

    pipelines: Mapping[str, Searched]
    evaluations: Sequence[Evaluation]
    recalls: Mapping[str, float] = field(default_factory=dict)
    recall_at: int = 10
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    stages: Sequence[StageEffect] = ()

    def compared(self, baseline: str | None, metrics: Sequence[str]) -> Outcome:
        """With a comparison for each metric, when there is something to compare and to compare by."""
        from diptych.evaluate import compare
        from diptych.evaluate.ask import runs_before, without_stage

        by_name = {evaluation.name: evaluation for evaluation in self.evaluations}
        alone = len(by_name) < 2 and baseline is None
        if alone or (self.single_query and baseline in (None, *by_name)):
            return self

        def best(names: Sequence[str]) -> str:
            return max(names, key=lambda name: by_name[name].means[metrics[0]])

        # The single slot with the highest mean; the first run where none is there.
        singles = [name for name, own in self.pipelines.items() if not own.pipeline.stages]
        comparisons = [compare(self.evaluations, baseline or best(singles or [*by_name][:1]), m) for m in metrics]
        stages = []
        for name, names in runs_before(self.pipelines).items():
            before = best(names)
            pair = [by_name[before], by_name[name]]
            own = comparisons[0] if before == comparisons[0].baseline else compare(pair, before, metrics[0])
            change = without_stage(self.pipelines[name].pipeline, self.pipelines[before].pipeline)
            times = [self.milliseconds[run] for run in (name, before) if run in self.milliseconds]
            stages.append(StageEffect(name, own, change, times))
        return replace(self, comparisons=comparisons, stages=stages)

    @property
    def advice(self) -> list[str]:
        """A sentence for each stage that is worse than what is before it, or not shown to be better."""
        return [stage.advice for stage in self.stages if stage.advice]

    @property
    def single_query(self) -> bool:
        """Whether only one query is judged, from which nothing can be tested."""
        return len(self.evaluations[0].queries) < 2


def _evaluate(
    collections: Mapping[str, Collection],
    queries: Sequence[Query],
    qrels: Qrels,
    metrics: list[str],
    only: list[str],
    fusions: list[str],
    *,
    with_exact: bool,
    tenant: str | None,
) -> Outcome:
    from diptych.evaluate import ann_recall
    from diptych.evaluate import evaluate as score
    from diptych.evaluate.ask import Searched, answering, choose, milliseconds, pipelines_of, runs_before
    from diptych.evaluate.ask import exact as exactly
    from diptych.evaluate.scoring import cutoff, parse_metrics
    from diptych.slots.slot import answerable

    listed = pipelines_of({label: collection.handle for label, collection in collections.items()}, fusions)
    chosen = choose(listed if only else answering(listed, queries), only)
    if left_out := [name for name in listed if not only and name not in chosen]:
        say(stderr(), f"left out: {', '.join(left_out)}, which can search with none of the queries", "yellow")
    at = max(collection.handle.search_config.limit for collection in collections.values())
    depth = max(at, *(cutoff(name) or DEEPEST for name in parse_metrics(metrics)))  # as many hits as the metrics read
    exact = {f"{name}, exact": Searched(own.view, exactly(own.pipeline)) for name, own in chosen.items() if with_exact}
    runs = runs_of({**chosen, **exact}, queries, depth=depth, tenant=tenant)
    recalls = {name: ann_recall(runs[name], runs[f"{name}, exact"], at) for name in chosen if with_exact}
    evaluations = [score(runs[name], qrels, metrics) for name in chosen]
    timed: dict[str, float] = {}
    if runs_before(chosen):
        reading = [(own.pipeline.slots, own.view.slots) for own in chosen.values()]
        asked = [query for query in queries if all(answerable(*own, [query]) for own in reading)][:TIMED]
        with Bars() as bars:
            bars.begin("timing", len(asked))
            advance = partial(bars.advance, "timing")
            times = milliseconds([*chosen.values()], asked, limit=at, tenant=tenant, advance=advance)
        timed = dict(zip(chosen, times, strict=False))
    return Outcome(chosen, evaluations, recalls, at, timed)


def runs_of(
    chosen: Mapping[str, Searched], queries: Sequence[Query], *, depth: int, tenant: str | None
) -> dict[str, Run]:
    """What each pipeline answers to the queries, with progress."""
    from diptych.evaluate.ask import ask
    from diptych.types import Run

    runs = {}
    with Bars() as bars:
        for name, own in chosen.items():
            bars.begin(name, len(queries))
            deep: dict[str, Any] = {
                "depth": depth,
                "advance": partial(bars.advance, name),
                "tenant": tenant,
                "with_ties": True,
            }
            runs[name] = Run.from_hits(name, queries, ask(own.view, queries, pipeline=own.pipeline, **deep))
    return runs


def judged_queries(
    settings: EvaluateConfig, folder: Path | None, queries: Path | None, qrels: Path | None
) -> tuple[list[Query], Qrels]:
    """The queries that are judged, and the judgements.

    Raises:
        EvaluationError: none are named, or they cannot be read.
    """
    from diptych.evaluate import Qrels, read_beir, read_queries

    if folder is not None and queries is None and qrels is None:
        return read_beir(folder)
    places = {"queries": queries or settings.queries, "qrels": qrels or settings.qrels}
    for name, place in places.items():
        if place is None:
            do = f"give a BEIR folder, --{name} FILE, or evaluate.{name} in the config file"
            raise EvaluationError(f"no {name} are named", do=do)
    judgements = Qrels.read(str(places["qrels"]))
    return [query for query in read_queries(str(places["queries"])) if query.id in judgements.judgements], judgements


@contextmanager
def opened(session: Session, configs: Sequence[Path]) -> Iterator[list[Collection]]:
    """Open the collections of these config files: each store once, and each model loaded once.

    Raises:
        ConfigError, StoreError, CollectionError: see diptych.collection.collection.
    """
    if len(configs) == 1:
        with session.collection(configs[0], None, None) as collection:
            yield [collection]
        return
    from diptych.collection.collection import Collection
    from diptych.handle.collection_handle import CollectionHandle
    from diptych.stores import open_store_of

    registry, clients, collections = session.registry.sharing(), {}, []
    with ExitStack() as stack:
        for path in configs:
            config = session.config(path)
            place = repr((config.urls, config.api_key and config.api_key.get_secret_value()))
            if place not in clients:
                client = open_store_of(config, registry=registry, create=False)
                clients[place] = stack.enter_context(closing(client))
            handle = CollectionHandle(clients[place], config.collection, config, registry)
            collections.append(stack.enter_context(Collection(handle)))
        yield collections


def labels(configs: Sequence[Path]) -> list[str]:
    """A short name for each config file: its file name, with its folder if two files have the same name."""
    stems = [path.stem for path in configs]
    return [f"{p.absolute().parent.name}/{p.stem}" if stems.count(p.stem) > 1 else p.stem for p in configs]
