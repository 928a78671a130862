"""`QuerySets`: queries that Studio can evaluate by or have judged; `evaluated`: the verdict on two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from diptych import Collection
from diptych.errors import DiptychError, EvaluationError
from diptych.evaluate import (
    Comparison,
    Evaluation,
    Qrels,
    SliceDifference,
    ask,
    beir_file,
    bootstrap_means,
    compare,
    cutoff,
    differences_by_slice,
    evaluate,
    fields_of_queries,
    parse_metrics,
    percentile_interval,
    read_beir,
    read_queries,
    slices_of,
    times,
)
from diptych.evaluate.ask import absent_documents
from diptych.handle.view import View
from diptych.runtime.validation_messages import nearest
from diptych.search import Pipeline, search
from diptych.types import Query, Run, said
from diptych_lab.judge.judgements import MANIFEST, QRELS, noted_collections
from diptych_serve.service.admission import Refused
from diptych_serve.studio.answers import EvaluatedSide, EvaluationResult, QueryRow, QuerySetFacts
from diptych_serve.studio.jobs import Job
from diptych_serve.studio.sides import Side

DEEPEST = 1000  # ranks that a measure without a cutoff reads, as TREC's runs have
MOST_HITS = 2_000_000  # of all queries and sides together, which are kept until the end
PAGE = 10  # hits by which the answers of two sides are said to overlap
TIMED = 20  # queries that are asked one by one, in turn of both sides
ASKING, TIMING, MEASURING = "asking the queries", "timing single queries", "comparing the sides"
CONFIDENCE, SAMPLES, SEED = 0.95, 10_000, 0

Place: TypeAlias = Path | tuple[Path, Path]  # a folder or file, or the queries and judgements that a config names


@dataclass(frozen=True)
class QuerySet:
    """Queries with their judgements.

    Args:
        name: of the set.
        queries: all of them.
        qrels: None where there are none yet.
        of: the collections that they judge; None for any.
        error: why it cannot be read, without queries then.
    """

    name: str
    queries: tuple[Query, ...] = ()
    qrels: Qrels | None = None
    of: tuple[str, ...] | None = None
    error: DiptychError | None = None

    def judged(self) -> tuple[list[Query], Qrels]:
        """The judged queries, and their judgements.

        Raises:
            EvaluationError: there are none.
        """
        if self.qrels is None or not len(self.qrels):
            do = "judge some in Studio or with diptych judge, or name a BEIR folder with qrels/test.tsv"
            raise EvaluationError(f"queries {self.name!r} are not judged", do=do)
        return [query for query in self.queries if query.id in self.qrels.judgements], self.qrels

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The ids of the judged queries by their words, of those with one text the first."""
        grades = self.qrels.judgements if self.qrels else {}
        return {own.text.strip(): own.id for own in reversed(self.queries) if own.id in grades and not own.media}


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged query: its set, its id, and the grades of documents."""

    name: str
    query: str
    grades: Mapping[str, int]


class QuerySets:
    """The query sets by name: folders that were named, those of the collections' configs, and what was judged here.

    They are read anew once their files have changed, so that judgements which came meanwhile count.

    Args:
        folders: BEIR folders, or folders or files with queries alone.
        judgements: the folder that judging saves to.

    Raises:
        EvaluationError: a folder cannot be read.
    """

    def __init__(self, folders: Sequence[Path] = (), judgements: Path | None = None) -> None:
        places = [*folders, *([judgements] if judgements else [])]
        self._places: dict[str, Place] = dict(zip(_names(places), places, strict=True))
        self._judgements = judgements
        self._known: dict[str, tuple[object, QuerySet]] = {}
        for folder in folders:
            _read(folder)  # so that a wrong name is an error at the start

    def names(self, collections: Iterable[Collection]) -> list[str]:
        """What can be named now; what was judged here once there is something."""
        return list(self._named(collections))

    def get(self, name: str, collections: Iterable[Collection]) -> QuerySet:
        """The set of this name, as its files are now.

        Args:
            name: one of `names`.
            collections: those of the service, whose configs may name judged queries.

        Raises:
            Refused: there is none.
            EvaluationError: its files cannot be read.
        """
        places = self._named(collections)
        if name not in places:
            known, hint = ", ".join(places) or "none: start Studio with --queries FOLDER", nearest(name, places)
            do = f"\n  do: {hint}" if hint else ""
            message = f"there are no judged queries {name[:80]!r}\n  expected: {known}{do}"
            raise Refused(404, message, code="no_such_queries", param="judged")
        found = self._set(name, *places[name])
        if found.error is not None:
            raise found.error
        return found

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
        places = self._named(collections)
        for name in sorted(places, key=lambda name: name != first):
            found = self._set(name, *places[name])
            query = found.texts.get(text.strip())
            if query is not None and found.qrels and (found.of is None or collection.name in found.of):
                return Judged(name, query, found.qrels.judgements[query])
        return None

    def described(self, collections: Iterable[Collection]) -> list[QuerySetFacts]:
        """Each set with its number of queries and of judged ones; `error` says why one cannot be read."""
        sets = [self._set(name, *place) for name, place in self._named(collections).items()]
        return [
            QuerySetFacts(
                name=own.name, queries=len(own.queries), judged=len(own.qrels or ()), error=own.error and str(own.error)
            )
            for own in sets
        ]

    def _named(self, collections: Iterable[Collection]) -> dict[str, tuple[Place, str | None]]:
        """Where each set is, and the collection whose config names it."""
        found: dict[str, tuple[Place, str | None]] = {
            name: (place, None)
            for name, place in self._places.items()
            if place != self._judgements or (self._judgements / QRELS).exists()
        }
        for collection in collections:
            settings = collection.handle.config.evaluate if collection.handle.config else None
            if settings is not None and settings.queries and settings.qrels:
                place = (Path(settings.queries), Path(settings.qrels))
                found.setdefault(f"config of {collection.name}", (place, collection.name))
        return found

    def _set(self, name: str, place: Place, owner: str | None) -> QuerySet:
        names = ("", "queries.jsonl", "queries.jsonl.gz", "qrels/test.tsv", "qrels/test.tsv.gz", MANIFEST)
        files = [place / own for own in names] if isinstance(place, Path) else [*place]
        signature = [(own.stat().st_size, own.stat().st_mtime_ns) if own.exists() else None for own in files]
        before, found = self._known.get(name, (None, None))
        if found is None or before != signature:
            try:
                queries, qrels = _read(place)
                of = noted_collections(place) if isinstance(place, Path) else (owner or "",)
                found = QuerySet(name, tuple(queries), qrels, None if of is None else tuple(of))
            except DiptychError as error:
                found = QuerySet(name, error=error)
            self._known[name] = signature, found
        return found


def _read(place: Place) -> tuple[list[Query], Qrels | None]:
    """The queries of a folder or files, and their judgements where there are any."""
    if isinstance(place, tuple):
        judgements = Qrels.read(place[1])
        return [query for query in read_queries(place[0]) if query.id in judgements.judgements], judgements
    if place.is_file():
        return read_queries(place), None
    if (place / "qrels").is_dir():
        return read_beir(place)
    return read_queries(beir_file(place, "queries.jsonl")), None


def _names(folders: Sequence[Path]) -> list[str]:
    """A short name for each: its own, with that of the folder above where two have the same."""
    places = [folder.absolute() for folder in folders]
    own = [place.name for place in places]
    longer = [place.name if own.count(place.name) == 1 else f"{place.parent.name}/{place.name}" for place in places]
    return [name if longer.count(name) == 1 else str(place) for name, place in zip(longer, places, strict=True)]


def asked(sides: Sequence[Side], queries: Sequence[Query], job: Job, *, depth: int, tenant: str | None) -> list[Run]:
    """The answers of each side to the queries, as a run of the side's name; the job is told the progress.

    Each side is asked by one view, so that no swap comes between two queries.

    Raises:
        SearchError, TenantError: it cannot be asked.
        JobCancelled: nobody wants it any more.
    """
    runs = []
    advance = partial(job.advance, ASKING)
    for side, name in zip(sides, names_of(sides), strict=True):
        hits = ask(
            side.view.now(),
            queries,
            pipeline=side.pipeline,
            depth=depth,
            with_ties=True,
            advance=advance,
            tenant=tenant,
        )
        runs.append(Run.from_hits(name, queries, hits))
    return runs


def evaluation(
    sides: Sequence[Side], judged: QuerySet, metric: str, slices: Sequence[str], tenant: str | None
) -> Callable[[Job], EvaluationResult]:
    """The job that gives the verdict on two sides, with what it stands on.

    Args:
        sides: two to compare; the first is the baseline.
        judged: the queries.
        metric: as `diptych evaluate` names them.
        slices: what queries are grouped by: `length`, `language`, or a metadata key.
        tenant: whose documents are searched, in collections with tenants.

    Raises:
        EvaluationError: it could not be measured.
        MissingExtra: ir-measures is not installed.
    """
    names_of(sides)
    queries, qrels = judged.judged()
    depth = max(PAGE, *(cutoff(name) or DEEPEST for name in parse_metrics([metric])))
    if len(queries) * len(sides) * depth > MOST_HITS:
        got = f"{len(queries):,} queries x {len(sides)} sides x {depth:,} hits"
        do = "choose a metric with a smaller cutoff, such as nDCG@10, or run diptych evaluate"
        raise EvaluationError("too many hits to keep", got=got, expected=f"at most {MOST_HITS:,}", do=do)

    def evaluated(job: Job) -> EvaluationResult:
        job.begin(ASKING, 2 * len(queries))
        now = [replace(side, view=side.view.now()) for side in sides]
        runs = asked(now, queries, job, depth=depth, tenant=tenant)
        milliseconds = _milliseconds(now, queries[:TIMED], tenant, job)
        job.begin(MEASURING, None)
        evaluations = [evaluate(run, qrels, [metric]) for run in runs]
        values = [evaluation.values(metric) for evaluation in evaluations]
        means = ", ".join(f"{own.name} has {metric} {own.means[metric]:.3f}" for own in evaluations)
        verdict = f"{means} over 1 judged query; one query is not enough for a comparison"
        comparison = None
        if len(values[0]) > 1:
            options: dict[str, Any] = {"confidence": CONFIDENCE, "samples": SAMPLES, "seed": SEED}
            comparison = compare(evaluations, evaluations[0].name, metric, **options)
            verdict = comparison.sentence(evaluations[1].name)
        view = now[0].view.now()
        rows, remarks = _slices(view, slices, queries, qrels, comparison)
        # Where documents have tenants, judgements may be of others' documents.
        absent = "" if view.tenancy is not None else absent_documents(view, qrels)
        said_of_runs = (remark for evaluation in evaluations for remark in evaluation.remarks())
        return EvaluationResult(
            metric=metric,
            verdict=verdict,
            remarks=[*([absent] if absent else []), *said_of_runs, *remarks],
            sides=[_side(*side, metric) for side in zip(now, evaluations, milliseconds, strict=True)],
            difference=comparison.differences[0] if comparison else None,
            test=comparison.describe() if comparison else "",
            queries=_rows(queries, values, runs),
            slices=rows,
        )

    return evaluated


def _rows(queries: Sequence[Query], values: Sequence[Mapping[str, float]], runs: Sequence[Run]) -> list[QueryRow]:
    """The values of each query, and the share of the first `PAGE` hits that both runs have: 1 where both have none."""
    (a, b), rows = values, []
    for query in queries:
        first, second = ({name for name, _ in run.rankings[query.id][:PAGE]} for run in runs)
        longest, key = max(len(first), len(second)), query.id
        overlap = len(first & second) / longest if longest else 1.0
        row = QueryRow(id=key, text=said(query), a=a[key], b=b[key], difference=b[key] - a[key], overlap=overlap)
        rows.append(row)
    return rows


def names_of(sides: Sequence[Side]) -> list[str]:
    """The names of two sides: their labels, with a number where these are the same.

    Raises:
        EvaluationError: they are one side.
    """
    a, b = sides
    if a.id == b.id and a.view is b.view:
        raise EvaluationError(
            "a side cannot be compared with itself", got=f"{a.id}, {b.id}", expected="different sides"
        )
    return [f"{a.label} 1", f"{b.label} 2"] if a.label == b.label else [a.label, b.label]


def _side(side: Side, evaluation: Evaluation, milliseconds: float, metric: str) -> EvaluatedSide:
    values = np.array(list(evaluation.values(metric).values()), np.float64)
    low, high = None, None
    if len(values) > 1:
        means = bootstrap_means(values, samples=SAMPLES, seed=SEED)
        low, high = percentile_interval(means, size=len(values), confidence=CONFIDENCE)
    view = side.view.now()
    pipeline = side.pipeline or Pipeline.from_config(view.search_config, view.slots)
    generations = {name: view.slots[name].generation for name in pipeline.slots}
    return EvaluatedSide(
        id=side.id,
        label=evaluation.name,
        mean=evaluation.means[metric],
        low=low,
        high=high,
        milliseconds=milliseconds,
        generations={name: own.number for name, own in generations.items() if own is not None},
    )


def _slices(
    view: View, by: Sequence[str], queries: Sequence[Query], qrels: Qrels, comparison: Comparison | None
) -> tuple[list[SliceDifference], list[str]]:
    """The difference within each group of queries, and a sentence for each way of grouping that gives none."""
    if comparison is None or not by:
        return [], []
    parts = slices_of(queries, by, fields_of_queries(view, by, qrels))
    empty = [name for name in by if name not in {part.by for part in parts}]
    rows = differences_by_slice(comparison.differences[0], parts, confidence=CONFIDENCE)
    return list(rows), [f"slices by {name}: no 10 queries share a value of it" for name in empty]


def _milliseconds(sides: Sequence[Side], timed: Sequence[Query], tenant: str | None, job: Job) -> list[float]:
    """The median time of a query on each side, encoding included."""
    job.begin(TIMING, len(timed))
    views = [(side.view.now().unremembered(), side.pipeline) for side in sides]

    def ask_side(side: tuple[View, Pipeline | None], query: Query) -> None:
        search(side[0], [query], pipeline=side[1], limit=PAGE, tenant=tenant)

    return list(np.median(times(ask_side, views, timed, advance=partial(job.advance, TIMING)), axis=1).tolist())
