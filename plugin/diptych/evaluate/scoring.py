"""`evaluate`: how well a run answers judged queries, by query and on average.

Besides, TREC files of runs, the order of their documents, and how much of an exact run an approximate one finds.
"""

from __future__ import annotations

import difflib
import gzip
import importlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.display import Display, Displayed, Table
from diptych.errors import EvaluationError, MissingExtra
from diptych.evaluate.qrels import Qrels, numbered_lines, place
from diptych.runtime.validation_messages import is_unicode
from diptych.types import Run

_TOLERANCE = 1e-5  # relative: one float32 dot product summed in another order

Ranking: TypeAlias = Sequence[tuple[str, float]]  # (document id, score), best first
Doubles: TypeAlias = NDArray[np.float64]
_CELLS = 4_000_000  # of one block of draws: 32 MB of float64
DEFAULT_METRICS = ("nDCG@10", "MRR@10", "Recall@100", "MAP", "P@10")


@dataclass(frozen=True, slots=True)
class Evaluation(Displayed):
    """Values of one run: `per_query[metric][query id]`. Every judged query counts, answered or not.

    Args:
        name: the run's name.
        per_query: for each metric, in the order asked for, the value of each judged query, in the order of the qrels.
        unanswered: judged queries for which the run has no document; each counts as 0.
        unjudged: queries of the run without judgements; they count nowhere.
        without_relevant: judged queries that have no relevant document; each counts as 0, as in trec_eval.
        depth: length of the run's longest ranking.
        foreign: a hit and a judged document where no hit is judged for any query: their ids may not be the same.
    """

    name: str
    per_query: Mapping[str, Mapping[str, float]]
    unanswered: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    without_relevant: tuple[str, ...] = ()
    depth: int = 0
    foreign: tuple[str, str] | None = None
    means: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        means = {metric: float(sum(values.values())) / len(values) for metric, values in self.per_query.items()}
        object.__setattr__(self, "means", means)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, as they were asked for."""
        return tuple(self.per_query)

    @property
    def queries(self) -> tuple[str, ...]:
        """Ids of the judged queries."""
        return tuple(next(iter(self.per_query.values())))

    def values(self, metric: str) -> Mapping[str, float]:
        """`{query id: value}` of one metric.

        Raises:
            EvaluationError: the metric was not computed.
        """
        if metric not in self.per_query:
            raise EvaluationError(
                f"{self.name!r} has no values of {metric!r}",
                got=", ".join(self.metrics),
                do=f"name {metric!r} in metrics when evaluating",
            )
        return self.per_query[metric]

    def display(self) -> Display:
        """The mean of each metric with its interval, where scipy is installed."""
        if not self.metrics:
            return Display(f"{self.name}: no metric was computed")
        first = self.metrics[0]
        rows = [
            (metric, f"{self.means[metric]:.4f}", _interval([*self.values(metric).values()])) for metric in self.metrics
        ]
        bounded = 3 if any(row[2] for row in rows) else 2
        columns = ("metric", "mean", "95% interval")[:bounded]
        table = Table(columns, [row[:bounded] for row in rows], numbers=(1, 2))
        head = f"{first} {self.means[first]:.4f} of {self.name} over {len(self.queries):,} judged queries"
        with suppress(MissingExtra):  # the remarks read the cutoffs of the metrics
            return Display(head, [table, *self.remarks()])
        return Display(head, [table])

    def remarks(self) -> list[str]:
        """What a reader of the means should know, one sentence each; may be empty."""
        deeper = [metric for metric in self.metrics if self.depth < (cutoff(metric) or 0)]
        counts = (
            (len(self.unanswered), "judged queries have no answer and count as 0"),
            (len(self.unjudged), "queries have no judgements and are left out"),
            (len(self.without_relevant), "judged queries have no relevant document and count as 0"),
        )
        remarks = [f"{self.name}: {count} {what}" for count, what in counts if count]
        if self.foreign:
            hit, judged = self.foreign
            remarks.append(
                f"{self.name}: no hit has a judgement. A hit is {hit!r}, a judged document {judged!r}: "
                "judgements must name the ids of the collection's documents"
            )
        if deeper:
            remarks.append(f"{self.name}: rankings end at rank {self.depth}, above the cutoff of {', '.join(deeper)}")
        return remarks


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """The values of `run` on each judged query, computed by ir-measures.

    nDCG has gains equal to the grades and log2 discounts; the other default metrics count grades of 1 or more as
    relevant. Ties are broken for each measure as ir-measures' provider does, which for `MRR@k` is MS MARCO's script;
    see `ordered`.

    Raises:
        EvaluationError: an unknown metric, a document twice in a ranking, a score that is NaN, or no query in common.
        MissingExtra: ir-measures is not installed.
    """
    measures = parse_metrics(metrics)
    rankings, answered = _ranked(run, greatest_first=True)
    if not qrels.judgements.keys() & run.rankings.keys():  # they come from two data sets
        raise EvaluationError(
            f"run {run.name!r} and the judgements share no query",
            where=qrels.source,
            got=f"queries {', '.join(list(run.rankings)[:3]) or 'none'}",
            expected=f"queries such as {', '.join(qrels.queries[:3]) or 'none: the qrels are empty'}",
            do="give the queries of the run their ids, and use run and qrels of one data set",
        )
    script = [measure for measure in dict.fromkeys(measures.values()) if _by_script(measure)]
    others = [measure for measure in dict.fromkeys(measures.values()) if not _by_script(measure)]
    found = _compute(others, qrels, answered)
    if script:
        found |= _compute(script, qrels, _ranked(run, greatest_first=False)[1])
    judged = dict.fromkeys(document for grades in qrels.judgements.values() for document in grades)
    hits = [document for query, ranking in answered.items() if query in qrels.judgements for document in ranking]
    foreign = (hits[0], next(iter(judged))) if hits and judged and judged.keys().isdisjoint(hits) else None
    return Evaluation(
        run.name,
        {name: {query: found[str(measure), query] for query in qrels.queries} for name, measure in measures.items()},
        unanswered=tuple(query for query in qrels.queries if query not in answered),
        unjudged=tuple(query for query in rankings if query not in qrels.judgements),
        without_relevant=qrels.without_relevant,
        depth=max(map(len, answered.values()), default=0),
        foreign=foreign,
    )


def _ranked(run: Run, *, greatest_first: bool) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The documents of each query, best first, and of those queries alone that have any."""
    rankings = {
        query: ordered(ranking, where=f"run {run.name!r}, query {query!r}", greatest_first=greatest_first)
        for query, ranking in run.rankings.items()
    }
    return rankings, {query: ranking for query, ranking in rankings.items() if ranking}


def _by_script(measure: Any) -> bool:
    """Whether MS MARCO's script computes it, which orders equal scores by rising ids."""
    return measure.NAME == "RR" and "cutoff" in measure.params


def _compute(measures: list[object], qrels: Qrels, answered: Mapping[str, list[str]]) -> dict[tuple[str, str], float]:
    """`{(measure, query): value}`; ir-measures itself fills in judged queries that have no answer."""
    ir_measures = load("ir_measures", purpose="evaluation")
    if not measures:
        return {}
    judged = {query: dict(grades) for query, grades in qrels.judgements.items()}
    scores = {query: rank_scores(ranking) for query, ranking in answered.items() if query in judged}
    values = ir_measures.iter_calc(measures, judged, scores)
    return {(str(value.measure), value.query_id): float(value.value) for value in values}


def parse_metrics(metrics: Sequence[str]) -> dict[str, Any]:
    """`{name as given: ir-measures' measure}`, in order.

    Raises:
        EvaluationError: no name, or one that no installed provider computes; the nearest known one is named.
        MissingExtra: ir-measures is not installed.
    """
    if not metrics or isinstance(metrics, str):
        raise EvaluationError("there are no metrics", got=repr(metrics), expected="names like 'nDCG@10'")
    return {name: _parse(name) for name in metrics}


def cutoff(name: str) -> int | None:
    """The rank at which a measure stops reading, None when it reads everything."""
    found = re.search(r"@(\d+)$", name)
    return int(found[1]) if found else None


def _parse(name: str) -> Any:
    ir_measures = load("ir_measures", purpose="evaluation")
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
        supported = ir_measures.DefaultPipeline.supports(measure)
    except (NameError, ValueError, TypeError, AssertionError, KeyError) as error:
        raise _unknown(name, str(error), ir_measures) from error
    if not supported:
        raise _unknown(name, "no installed provider computes it", ir_measures)
    if cutoff(name) == 0:
        raise _unknown(name, "a cutoff of 0", ir_measures)
    return measure


def _unknown(name: str, reason: str, ir_measures: Any) -> EvaluationError:
    """The error for a measure, with the known one most similar to it, ignoring case, and its cutoff or else 10."""
    stem, at, depth = (part.strip() for part in name.partition("@"))
    by_lower = {measure.lower(): measure for measure in reversed(list(ir_measures.measures.registry))}
    near = [by_lower[own] for own in difflib.get_close_matches(stem.lower(), by_lower, n=1)]  # of nDCG and NDCG, nDCG
    if near and (at or near[0] == stem):
        near = [f"{near[0]}@{depth if depth.isdigit() and int(depth) else 10}"]
    return EvaluationError(
        f"unknown metric {name!r}",
        got=reason,
        expected=f"a measure of ir-measures, such as {', '.join(DEFAULT_METRICS)}",
        do=f"did you mean {near[0]!r}?" if near else "see https://ir-measur.es/en/latest/measures.html",
        metric=name,
    )


def load(module: str, *, purpose: str) -> Any:
    """The imported `module`; `Any`, since these packages carry no types.

    Raises:
        MissingExtra: its distribution is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{purpose} needs the package {module.partition('.')[0]}",
            got=str(error),
            do="pip install 'diptych[eval]'",
        ) from error


def _interval(values: Sequence[float]) -> str:
    """The bootstrap interval of a mean; empty for a single query, and where scipy is not installed."""
    if len(values) < 2:
        return ""
    with suppress(MissingExtra):
        means = bootstrap_means(np.array(values, np.float64), samples=2000, seed=0)
        low, high = percentile_interval(means, size=len(values), confidence=0.95)
        return f"{low:.4f} to {high:.4f}"
    return ""


def bootstrap_means(differences: Doubles, *, samples: int, seed: int) -> Doubles:
    """Means of `samples` resamples of the differences with replacement, float64 `[samples]`."""
    rng, size = np.random.default_rng(seed), len(differences)
    draws = (differences[rng.integers(0, size, (rows, size))].mean(axis=1) for rows in blocks_of_draws(samples, size))
    return np.concatenate(list(draws))


def percentile_interval(means: Doubles, *, size: int, confidence: float) -> tuple[float, float]:
    """The interval that holds the true mean `confidence` of the time, from resampled means of `size` >= 2 values.

    Hesterberg's expanded percentiles: plain ones, of 30 queries, cover 91% where they say 95%.

    Raises:
        MissingExtra: scipy is not installed.
    """
    special = load("scipy.special", purpose="an interval")
    deviations = special.stdtrit(size - 1, (1 + confidence) / 2) * (size / (size - 1)) ** 0.5
    tail = float(special.ndtr(-deviations))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def blocks_of_draws(samples: int, size: int) -> Iterator[int]:
    """Numbers of draws that add up to `samples`, each small enough for memory."""
    most = max(1, _CELLS // max(1, size))
    while samples > 0:
        yield min(most, samples)
        samples -= most


def to_trec(run: Run, path: str | Path, *, scores: Literal["own", "rank"] = "own") -> None:
    """Write `run`, gzipped when the name ends in `.gz`; what it replaces is replaced whole or not at all.

    Args:
        run: what to write; its name becomes the tag, with `_` for white space.
        path: the file.
        scores: `own` writes the run's scores; `rank` writes the number of documents left, for a run whose scores do not
            fall, since the tools sort by score and ignore the rank.

    Raises:
        EvaluationError: an id holds white space or is empty, scores rise (with `own`), or a document comes twice.
    """
    path = Path(path)
    text = "".join(line for query, ranking in run.rankings.items() for line in _lines(run, query, ranking, scores))
    data = text.encode()
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    temporary.replace(path)


def from_trec(path: str | Path, *, name: str = "") -> Run:
    """The run in a TREC file, gzipped or not, named by its tag unless `name` is given.

    Documents are ordered by score, then by id, both falling, whatever the rank column says: trec_eval's rule.

    Raises:
        EvaluationError: the file cannot be read, a line is malformed, or a document comes twice for a query.
    """
    path = Path(path)
    rankings: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in numbered_lines(path):
        query, document, score, tag = _row(line, place(path, number))
        if document in rankings.setdefault(query, {}):
            raise EvaluationError(f"document {document!r} appears twice for query {query!r}", where=place(path, number))
        rankings[query][document] = score
    if not rankings:
        raise EvaluationError("there is no ranked document", where=path, expected="query Q0 doc rank score tag")
    return Run(
        name or tag,
        {
            query: sorted(scores.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
            for query, scores in rankings.items()
        },
    )


def _lines(run: Run, query: str, ranking: Ranking, scores: str) -> Iterator[str]:
    where = f"run {run.name!r}, query {query!r}"
    tag = "_".join(run.name.split()) or "run"
    documents = ordered(ranking, where=where)
    values = rank_scores(documents) if scores == "rank" else dict(ranking)
    falling = [values[document] for document in documents]
    for rank, (higher, lower) in enumerate(itertools.pairwise(falling), 2):
        if lower > higher:
            what, do = (
                "scores rise in a ranking, and tools that read TREC files sort by score",
                'write it with scores="rank"',
            )
            raise EvaluationError(what, where=f"{where}, rank {rank}", got=f"{lower} after {higher}", do=do)
    for rank, document in enumerate(documents, 1):
        score = repr(float(values[document]))
        yield f"{_word(query, where)} Q0 {_word(document, where)} {rank} {score} {tag}\n"


def _word(word: str, where: str) -> str:
    if word.split() != [word] or not is_unicode(word):
        raise EvaluationError("TREC files are separated by spaces", where=where, got=repr(word), expected="one word")
    return word


def _row(line: str, where: str) -> tuple[str, str, float, str]:
    fields = line.split()
    if len(fields) != 6:
        raise EvaluationError(
            "a line is not a ranked document",
            where=where,
            got=f"{len(fields)} columns",
            expected="6: query Q0 doc rank score tag",
        )
    query, _, document, _, score, tag = fields
    try:
        value = float(score)
    except ValueError as error:
        raise EvaluationError("a score is not a number", where=where, got=repr(score)[:80]) from error
    if not math.isfinite(value):
        raise EvaluationError("a score is not finite", where=where, got=score[:80])
    return query, document, value, tag


def ordered(ranking: Ranking, *, where: str, greatest_first: bool = True) -> list[str]:
    """Document ids, best first: the ranking's own order, but neighbours of one score by id, the greatest first.

    That is trec_eval's rule for ties; MS MARCO's script has the least first. Scores that rise are left alone: a stage
    such as MMR ranks by something else than the score it shows.

    Raises:
        EvaluationError: a document comes twice, or a score is NaN.
    """
    seen: set[str] = set()
    for rank, (document, score) in enumerate(ranking, 1):
        if document in seen:
            what, do = f"document {document!r} appears twice in a ranking", "rank each document once, by its best chunk"
            raise EvaluationError(what, where=f"{where}, rank {rank}", do=do)
        if math.isnan(score):
            raise EvaluationError(f"the score of document {document!r} is not a number", where=f"{where}, rank {rank}")
        seen.add(document)
    groups = itertools.groupby(ranking, key=lambda pair: pair[1])
    return [document for _, group in groups for document, _ in sorted(group, reverse=greatest_first)]


def rank_scores(documents: Sequence[str]) -> dict[str, float]:
    """Scores that express only the order, so that no provider's tie rule or rounding changes it."""
    return {document: float(len(documents) - rank) for rank, document in enumerate(documents)}


def ann_recall(approximate: Run, exact: Run, k: int) -> float:
    """Mean over the queries of `exact` of the share of the exact top `k` that `approximate` found in its own top `k`.

    A document that scores the same as the k-th exact one can stand in its place, as in ANN-Benchmarks (Aumüller,
    Bernhardsson and Faithfull, Information Systems 2020), but never in that of a better one. Make `exact` with
    `SearchParams(exact=True)`, a little deeper than `k` when the approximate scores are not the true ones, as with
    quantization without rescoring: a document's score is taken from `exact` where that has it. A query whose exact
    answer is empty has recall 1: nothing was missed.

    Raises:
        EvaluationError: `k` is below 1, or the two runs have different queries.
    """
    if k < 1:
        raise EvaluationError("recall needs a k of at least 1", got=k)
    lonely = approximate.rankings.keys() ^ exact.rankings.keys()
    if lonely or not exact.rankings:
        what = f"runs {approximate.name!r} and {exact.name!r} do not answer the same queries"
        got = f"{len(lonely)} queries that only one has" if lonely else "no queries"
        raise EvaluationError(what, got=got, do="search both with the same queries, each with its id")
    for run in (approximate, exact):
        for query, ranking in run.rankings.items():
            ordered(ranking, where=f"run {run.name!r}, query {query!r}")  # refuses a document twice, and NaN
    recalls = [_recall(approximate.rankings[query], ranking, k) for query, ranking in exact.rankings.items()]
    return sum(recalls) / len(recalls)


def _recall(found: Ranking, exact: Ranking, k: int) -> float:
    top, first = exact[:k], found[:k]
    if not top:
        return 1.0
    scores, last = dict(exact), top[-1][1]
    equal = partial(math.isclose, last, rel_tol=_TOLERANCE, abs_tol=1e-7)
    needed = {document for document, score in top if not equal(score)}
    hits = sum(document in needed for document, _ in first)
    ties = sum(document not in needed and equal(scores.get(document, score)) for document, score in first)
    return (hits + min(ties, len(top) - len(needed))) / len(top)
