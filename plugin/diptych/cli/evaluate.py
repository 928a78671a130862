"""`diptych evaluate`: how well each slot and the whole pipeline answer judged queries.

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
from diptych.display import Display, say
from diptych.errors import EvaluationError

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Comparison, Evaluation, Qrels
    from diptych.evaluate.ask import Searched
    from diptych.types import Query, Run


DEEPEST = 1000  # ranks, as in TREC, without a cutoff


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
        return write_json({**data, "approximate_search": recalls, "advice": outcome.advice})
    parts = [*table(outcome.evaluations, comparisons=outcome.comparisons).parts]
    parts += [
        f"{name}: finds {own:.4f} of the exact first {outcome.recall_at}" for name, own in outcome.recalls.items()
    ]
    parts += [own.sentence(found.name) for own in outcome.comparisons[:1] for found in own.differences]
    parts += [f"advice: {advice}" for advice in outcome.advice]
    warnings = ["nothing is compared: only one query is judged"] if outcome.single_query else ()
    return show(Display("", parts, warnings))


def split_names(names: Sequence[str]) -> list[str]:
    """Names given one by one or with commas between, each once; commas in brackets, as in `RBP(p=0.8,rel=1)`, stay."""
    found = (name.strip() for text in names for name in re.findall(r"(?:[^,(]|\([^()]*+\)|\()++", text))
    return list(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Runs with their values, the paired tests between them, and the recall of approximate search."""

    runs: Mapping[str, Run]
    evaluations: Sequence[Evaluation]
    recalls: Mapping[str, float] = field(default_factory=dict)
    recall_at: int = 10
    comparisons: Sequence[Comparison] = ()
    singles: Sequence[str] = ()

    def compared(self, baseline: str | None, metrics: Sequence[str]) -> Outcome:
        """With a comparison for each metric, when there is something to compare and to compare by."""
        from diptych.evaluate import compare

        names = [evaluation.name for evaluation in self.evaluations]
        alone = len(names) < 2 and baseline is None
        if alone or (self.single_query and baseline in (None, *names)):
            return self
        # The single slot with the highest mean; the first run where none is there.
        singles = [run for run in self.evaluations if run.name in self.singles] or self.evaluations[:1]
        best = max(singles, key=lambda run: run.means[metrics[0]]).name
        comparisons = [compare(self.evaluations, baseline or best, m) for m in metrics]
        return replace(self, comparisons=comparisons)

    @property
    def advice(self) -> list[str]:
        """A sentence for each run of several slots that is shown to be worse than the baseline by the first metric."""
        if not self.comparisons or self.comparisons[0].baseline not in self.singles:
            return []
        first = self.comparisons[0]
        return [
            f"{difference.name} is below {first.baseline} alone by {-difference.mean:.3f} {first.metric} "
            f"[{difference.low:+z.3f}, {difference.high:+z.3f}]: search by {first.baseline} alone, "
            "or let diptych tune search find weights"
            for difference in first.differences
            if difference.name not in self.singles and difference.mean < 0 and first.significant(difference.name)
        ]

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
    from diptych.evaluate.ask import Searched, answering, choose, pipelines_of
    from diptych.evaluate.ask import exact as exactly
    from diptych.evaluate.scoring import cutoff, parse_metrics

    listed = pipelines_of({label: collection.handle for label, collection in collections.items()}, fusions)
    chosen = choose(listed if only else answering(listed, queries), only)
    if left_out := [name for name in listed if not only and name not in chosen]:
        say(stderr(), f"left out: {', '.join(left_out)}, which can search with none of the queries", "yellow")
    at = max(collection.handle.search_config.limit for collection in collections.values())
    depth = max(at, *(cutoff(name) or DEEPEST for name in parse_metrics(metrics)))  # as many hits as the metrics read
    exact = {f"{name}, exact": Searched(own.view, exactly(own.pipeline)) for name, own in chosen.items() if with_exact}
    runs = runs_of({**chosen, **exact}, queries, depth=depth, tenant=tenant)
    recalls = {name: ann_recall(runs[name], runs[f"{name}, exact"], at) for name in chosen if with_exact}
    runs = {name: runs[name] for name in chosen}
    singles = [name for name, searched in chosen.items() if not searched.pipeline.stages]
    return Outcome(runs, [score(run, qrels, metrics) for run in runs.values()], recalls, at, singles=singles)


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
            deep: dict[str, Any] = {"depth": depth, "advance": partial(bars.advance, name), "tenant": tenant}
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
