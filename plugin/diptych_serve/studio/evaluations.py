"""`QuerySets`: queries that Studio can evaluate by or have judged; `evaluated`: the verdict on one or two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from diptych import Collection
from diptych.collection.pipeline_runs import absent_documents
from diptych.errors import DiptychError, EvaluationError
from diptych.evaluate import (
    Comparison,
    Evaluation,
    Qrels,
    bootstrap_means,
    compare,
    differences_by_slice,
    evaluate,
    percentile_interval,
    read_beir,
    read_queries,
    slices_of,
)
from diptych.evaluate.ask import ask, fields_of_queries, times
from diptych.evaluate.qrels import beir_file
from diptych.evaluate.scoring import cutoff, parse_metrics
from diptych.handle.snapshot import View
from diptych.runtime.validation_messages import nearest
from diptych.search import Pipeline, search
from diptych.types import Query, Run, said
from diptych_lab.judge.judgements import MANIFEST, QRELS, noted_collections
from diptych_serve.service.admission import Refused
from diptych_serve.studio.jobs import Job
from diptych_serve.studio.sides import Side

DEEPEST = 1000  # ranks that a measure without a cutoff reads, as TREC's runs have
MOST_HITS = 2_000_000  # of all queries and sides together, which are kept until the end
TIMED = 20  # queries that are asked one by one, in turn of both sides
TIMING, MEASURING = "timing single queries", "comparing the sides"
CONFIDENCE, SAMPLES, SEED = 0.95, 10_000, 0

Content: TypeAlias = tuple[list[Query], Qrels | None]
Signature: TypeAlias = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a set is read from: its files, some of which may not exist, and what reads them.

    `of` reads for which collections it is judged; None for any.
    """

    files: tuple[Path, ...]
    read: Callable[[], Content]
    of: Callable[[], Sequence[str] | None]

    @property
    def signature(self) -> Signature:
        """Sizes and times of the files, which tell whether they are as they were."""
        found = ((file, file.stat()) if file.exists() else (file, None) for file in self.files)
        return tuple(None if facts is None else (facts.st_size, facts.st_mtime_ns) for _, facts in found)


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries with their judgements; `qrels` is None where there are none yet."""

    name: str
    queries: tuple[Query, ...]
    qrels: Qrels | None = None

    def judged(self) -> tuple[list[Query], Qrels]:
        """The judged queries, and their judgements.

        Raises:
            EvaluationError: there are none.
        """
        if self.qrels is None or not len(self.qrels):
            do = "judge some in Studio or with diptych judge, or name a BEIR folder with qrels/test.tsv"
            raise EvaluationError(f"queries {self.name!r} are not judged", do=do)
        return [query for query in self.queries if query.id in self.qrels.judgements], self.qrels


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged query: its set, its id, the grades of documents, and of which collections they are; None for any."""

    name: str
    query: str
    grades: Mapping[str, int]
    of: Sequence[str] | None


class QuerySets:
    """The query sets by name: folders that were named, those of the collections' configs, and what was judged here.

    They are read when they are used, so that judgements which came meanwhile count.

    Args:
        folders: BEIR folders, or folders or files with queries alone.
        judgements: the folder that judging saves to.

    Raises:
        EvaluationError: a folder cannot be read.
    """

    def __init__(self, folders: Sequence[Path] = (), judgements: Path | None = None) -> None:
        places = [*folders, *([judgements] if judgements else [])]
        self._places = dict(zip(_names(places), places, strict=True))
        self._judgements = judgements
        self._known: dict[str, tuple[Signature, dict[str, Any]]] = {}
        self._judged: dict[str, tuple[Signature, dict[str, Judged]]] = {}
        for folder in folders:
            _read(folder)  # so that a wrong name is an error at the start

    def names(self, collections: Iterable[Collection]) -> list[str]:
        """What can be named now; what was judged here once there is something."""
        return list(self._sources(collections))

    def get(self, name: str, collections: Iterable[Collection]) -> QuerySet:
        """The set of this name, read now.

        Args:
            name: one of `names`.
            collections: those of the service, whose configs may name judged queries.

        Raises:
            Refused: there is none.
            EvaluationError: its files cannot be read.
        """
        sources = self._sources(collections)
        if name not in sources:
            known, hint = ", ".join(sources) or "none: start Studio with --queries FOLDER", nearest(name, sources)
            do = f"\n  do: {hint}" if hint else ""
            message = f"there are no judged queries {name[:80]!r}\n  expected: {known}{do}"
            raise Refused(404, message, code="no_such_queries", param="judged")
        queries, qrels = sources[name].read()
        return QuerySet(name, tuple(queries), qrels)

    def judged_query(
        self, text: str, collection: Collection, collections: Iterable[Collection], *, first: str | None = None
    ) -> Judged | None:
        """The judged query with these words; None if no set has one, or only one that is judged for another collection.

        Args:
            text: the words, without media.
            collection: whose documents are wanted.
            collections: those of the service, as for `get`.
            first: the set to look in before all others.
        """
        sources = self._sources(collections)
        for name in sorted(sources, key=lambda name: name != first):
            found = self._texts(name, sources[name]).get(text.strip())
            if found and (found.of is None or collection.name in found.of):
                return found
        return None

    def _texts(self, name: str, source: Source) -> dict[str, Judged]:
        """The judged queries of a set by their words, read anew if its files have changed."""
        signature, (before, texts) = source.signature, self._judged.get(name, ((), {}))
        if before != signature:
            texts = _judged_texts(name, source)
            self._judged[name] = signature, texts
        return texts

    def described(self, collections: Iterable[Collection]) -> list[dict[str, Any]]:
        """Each set with its number of queries and of judged ones; `error` says why one cannot be read."""
        return [self._described(name, source) for name, source in self._sources(collections).items()]

    def _described(self, name: str, source: Source) -> dict[str, Any]:
        """The facts of a set, counted anew if its files have changed: every page that opens asks for them."""
        signature, (before, facts) = source.signature, self._known.get(name, ((), {}))
        if not facts or before != signature:
            facts = _facts(name, source)
            self._known[name] = signature, facts
        return facts

    def _sources(self, collections: Iterable[Collection]) -> dict[str, Source]:
        sources = {
            name: Source(_files_of(place), partial(_read, place), partial(noted_collections, place))
            for name, place in self._places.items()
            if place != self._judgements or (place / QRELS).exists()
        }
        for collection in collections:
            settings = collection.handle.config.evaluate if collection.handle.config else None
            if settings is not None and settings.queries and settings.qrels:
                paths = (settings.queries, settings.qrels)
                own = (collection.name,)
                source = Source(tuple(map(Path, paths)), partial(_read_files, *paths), partial(tuple, own))
                sources.setdefault(f"config of {collection.name}", source)
        return sources


def _facts(name: str, source: Source) -> dict[str, Any]:
    try:
        queries, qrels = source.read()
    except DiptychError as error:
        return {"name": name, "queries": 0, "judged": 0, "error": str(error)}
    return {"name": name, "queries": len(queries), "judged": len(qrels) if qrels is not None else 0, "error": None}


def _judged_texts(name: str, source: Source) -> dict[str, Judged]:
    try:
        (queries, qrels), of = source.read(), source.of()
    except DiptychError:  # `described` says so
        return {}
    grades = qrels.judgements if qrels is not None else {}
    texts = {query.text.strip(): query.id for query in reversed(queries) if query.id in grades and not query.media}
    return {text: Judged(name, query, grades[query], of) for text, query in texts.items()}


def _files_of(place: Path) -> tuple[Path, ...]:
    """The files that a set at this place may consist of."""
    names = ("queries.jsonl", "queries.jsonl.gz", "qrels/test.tsv", "qrels/test.tsv.gz", MANIFEST)
    return (place, *(place / name for name in names))


def _read(place: Path) -> Content:
    """The queries of a folder or a file, and their judgements where the folder has any."""
    if place.is_file():
        return read_queries(place), None
    if (place / "qrels").is_dir():
        return read_beir(place)
    return read_queries(beir_file(place, "queries.jsonl")), None


def _read_files(queries: str, qrels: str) -> Content:
    judgements = Qrels.read(qrels)
    return [query for query in read_queries(queries) if query.id in judgements.judgements], judgements


def _names(folders: Sequence[Path]) -> list[str]:
    """A short name for each: its own, with that of the folder above where two have the same."""
    places = [folder.absolute() for folder in folders]
    own = [place.name for place in places]
    longer = [place.name if own.count(place.name) == 1 else f"{place.parent.name}/{place.name}" for place in places]
    return [name if longer.count(name) == 1 else str(place) for name, place in zip(longer, places, strict=True)]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is to be evaluated.

    Args:
        collection: what is searched.
        sides: one, or two to compare; the first is the baseline.
        judged: the queries.
        metric: as `diptych evaluate` names them.
        limit: hits of a page, by which the answers of two sides are said to overlap.
        slices: what queries are grouped by: `length`, `language`, or a metadata key.
        tenant: whose documents are searched, in collections with tenants.
    """

    collection: Collection
    sides: tuple[Side, ...]
    judged: QuerySet
    metric: str = "nDCG@10"
    limit: int = 10
    slices: tuple[str, ...] = ()
    tenant: str | None = None

    @property
    def depth(self) -> int:
        """Hits of each query that are asked for.

        Raises:
            EvaluationError: the metric is unknown.
            MissingExtra: ir-measures is not installed.
        """
        deepest = max(cutoff(name) or DEEPEST for name in parse_metrics([self.metric]))
        return max(deepest, self.limit)

    def require(self) -> None:
        """Raise EvaluationError or MissingExtra for what could not be evaluated, before anything is asked."""
        queries, _ = self.judged.judged()
        hits = len(queries) * len(self.sides) * self.depth
        if hits > MOST_HITS:
            got = f"{len(queries):,} queries x {len(self.sides)} sides x {self.depth:,} hits"
            do = "choose a metric with a smaller cutoff, such as nDCG@10, or run diptych evaluate"
            raise EvaluationError("too many hits to keep", got=got, expected=f"at most {MOST_HITS:,}", do=do)


def evaluated(wanted: EvaluationPlan, job: Job) -> dict[str, Any]:
    """The evaluation as JSON values.

    Raises:
        EvaluationError, SearchError, TenantError: it cannot be measured.
        JobCancelled: nobody wants it any more.
    """
    queries, qrels = wanted.judged.judged()
    asking, asked, timed = "asking the judged queries", len(queries) * len(wanted.sides), queries[:TIMED]
    job.plan({asking: asked, TIMING: len(timed), MEASURING: 0})
    job.begin(asking, asked)
    views, runs = list[View](), list[Run]()
    for side in wanted.sides:
        views.append(view := side.view.now())  # one view, so that no swap comes between two queries
        hits = ask(
            view,
            queries,
            pipeline=side.pipeline,
            depth=wanted.depth,
            advance=lambda n: job.advance(asking, n),
            tenant=wanted.tenant,
        )
        runs.append(Run.from_hits(side.id, queries, hits))
    milliseconds = _milliseconds(wanted, timed, job)
    job.begin(MEASURING, None)
    evaluations = [_labelled(evaluate(run, qrels, [wanted.metric]), n, wanted) for n, run in enumerate(runs)]
    comparison = _comparison(evaluations, wanted.metric)
    slices, remarks = _slices(wanted, queries, qrels, comparison)
    has_tenants = wanted.collection.handle.view.tenancy is not None  # judgements may be of others' documents
    absent = "" if has_tenants else absent_documents(wanted.collection, qrels)
    return {
        "metric": wanted.metric,
        "verdict": _verdict(evaluations, comparison, wanted.metric),
        "remarks": [
            *([absent] if absent else []),
            *(remark for evaluation in evaluations for remark in evaluation.remarks()),
            *remarks,
        ],
        "queries_judged": len(evaluations[0].queries),
        "sides": [
            {**_side(side, evaluation, wanted.metric, time_of), "generations": _generations(side, view)}
            for side, view, evaluation, time_of in zip(wanted.sides, views, evaluations, milliseconds, strict=True)
        ],
        "difference": _difference(comparison),
        "queries": _queries(wanted, queries, runs, evaluations),
        "slices": slices,
    }


def names_of(sides: Sequence[Side]) -> list[str]:
    """A name for each side: its label, with a number where two have the same.

    Raises:
        EvaluationError: a side comes twice.
    """
    for number, side in enumerate(sides):
        if any(other.id == side.id and other.view is side.view for other in sides[:number]):
            got = ", ".join(own.id for own in sides)
            raise EvaluationError("a side cannot be compared with itself", got=got, expected="different sides")
    labels = [side.label for side in sides]
    return [
        f"{label} {labels[: number + 1].count(label)}" if labels.count(label) > 1 else label
        for number, label in enumerate(labels)
    ]


def _labelled(evaluation: Evaluation, number: int, wanted: EvaluationPlan) -> Evaluation:
    return replace(evaluation, name=names_of(wanted.sides)[number])


def _comparison(evaluations: Sequence[Evaluation], metric: str) -> Comparison | None:
    """The second side against the first; None with one side, or with one query, from which nothing can be tested."""
    if len(evaluations) < 2 or len(evaluations[0].queries) < 2:
        return None
    return compare(evaluations, evaluations[0].name, metric, confidence=CONFIDENCE, samples=SAMPLES, seed=SEED)


def _verdict(evaluations: Sequence[Evaluation], comparison: Comparison | None, metric: str) -> str:
    if comparison is not None:
        return comparison.sentence(evaluations[1].name)
    means = ", ".join(f"{evaluation.name} has {metric} {evaluation.means[metric]:.3f}" for evaluation in evaluations)
    count = len(evaluations[0].queries)
    why = "; one query is not enough for a comparison" if count == 1 else ""
    return f"{means} over {count} judged {'query' if count == 1 else 'queries'}{why}"


def _side(side: Side, evaluation: Evaluation, metric: str, milliseconds: float) -> dict[str, Any]:
    values = np.array(list(evaluation.values(metric).values()), np.float64)
    low, high = _interval(values)
    facts = {"id": side.id, "label": evaluation.name, "mean": evaluation.means[metric], "low": low, "high": high}
    return {**facts, "milliseconds": milliseconds}


def _generations(side: Side, view: View) -> dict[str, int]:
    """The generation of each slot that was asked, by which a later swap or rollback is noticed."""
    pipeline = side.pipeline or Pipeline.from_config(view.search_config, view.slots)
    generations = {name: view.slots[name].generation for name in pipeline.slots}
    return {name: generation.number for name, generation in generations.items() if generation is not None}


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The bootstrap interval of the mean of `values`, float64 `[n]`; None for fewer than two."""
    if len(values) < 2:
        return None, None
    means = bootstrap_means(values, samples=SAMPLES, seed=SEED)
    return percentile_interval(means, size=len(values), confidence=CONFIDENCE)


def _difference(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    (found,) = comparison.differences
    facts: dict[str, Any] = {name: getattr(found, name) for name in ("mean", "low", "high", "wins", "ties", "losses")}
    return {**facts, "p": found.adjusted, "test": comparison.describe()}


def _queries(
    wanted: EvaluationPlan, queries: Sequence[Query], runs: Sequence[Run], evaluations: Sequence[Evaluation]
) -> list[dict[str, Any]]:
    """Each query with its values; the second side's, the difference and the overlap are None with one side."""
    values = [evaluation.values(wanted.metric) for evaluation in evaluations]
    rows = []
    for query in queries:
        a, b = values[0][query.id], values[1][query.id] if len(values) > 1 else None
        rows.append(
            {
                "id": query.id,
                "text": said(query),
                "a": a,
                "b": b,
                "difference": None if b is None else b - a,
                "overlap": None if b is None else _overlap(query.id, runs, wanted.limit),
            }
        )
    return rows


def _overlap(query: str, runs: Sequence[Run], limit: int) -> float:
    """The share of the first `limit` hits that two runs have in common; 1 where both have none."""
    first, second = ({name for name, _ in run.rankings[query][:limit]} for run in runs)
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0


def _slices(
    wanted: EvaluationPlan, queries: Sequence[Query], qrels: Qrels, comparison: Comparison | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The difference within each group of queries, and a sentence for each way of grouping that gives none."""
    if comparison is None or not wanted.slices:
        return [], []
    fields: Mapping[str, Mapping[str, str]] = fields_of_queries(wanted.sides[0].view.now(), wanted.slices, qrels)
    parts = slices_of(queries, wanted.slices, fields)
    rows = [
        {
            "name": part.slice.by,
            "value": part.slice.value,
            "queries": len(part.slice.queries),
            "difference": part.mean,
            "low": part.low,
            "high": part.high,
        }
        for part in differences_by_slice(comparison.differences[0], parts, confidence=CONFIDENCE)
    ]
    empty = [name for name in wanted.slices if name not in {part.by for part in parts}]
    return rows, [f"slices by {name}: no 10 queries share a value of it" for name in empty]


def _milliseconds(wanted: EvaluationPlan, timed: Sequence[Query], job: Job) -> list[float]:
    """The median time of a query on each side, encoding included."""
    job.begin(TIMING, len(timed))
    sides = [(side.view.now().unremembered(), side.pipeline) for side in wanted.sides]

    def ask_side(side: tuple[View, Pipeline | None], query: Query) -> None:
        search(side[0], [query], pipeline=side[1], limit=wanted.limit, tenant=wanted.tenant)

    if not timed:
        return []
    return list(np.median(times(ask_side, sides, timed, advance=lambda n: job.advance(TIMING, n)), axis=1).tolist())
