"""Rows for sentence-transformers' trainers: a query, a positive, negatives, and a label column of ids or scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import ConfigError, ContractError
from diptych_training.corpus import TrainingData, first_of

Rows = NDArray[np.int64]

Lists = Mapping[str, Sequence[str]]  # for each query the ids of some documents, the hardest first
Scores = Mapping[str, Mapping[str, float]]  # for each query what a teacher gives some documents
EXACT = 2**24  # up to here float32 holds every integer
SCORE = (
    "give scores of each query's relevant documents and of its negatives, by the ids of queries and documents; the "
    "negatives are in data/negatives.jsonl of the run's folder after diptych train --prepare"
)


def columns(negatives: int) -> list[str]:
    """Names of the text columns: query, positive, negative_1, ..."""
    return ["query", "positive", *(f"negative_{n}" for n in range(1, negatives + 1))]


def training_rows(data: TrainingData, negatives: Lists | None = None, *, per_query: int = 1, seed: int = 0) -> Any:
    """A row for each judged pair: texts, and as `label` the ids `[2 + H]` that `Candidates` reads.

    Args:
        data: whose judgements are trained on.
        negatives: of each query, the hardest first; None or 0 a query for in-batch negatives alone.
        per_query: H. A query with fewer gets random documents beside them, which are not judged for it; one that
            has none and judges all documents is left out.
        seed: of the random ones.

    Returns:
        A `datasets.Dataset`.

    Raises:
        ConfigError: no query has a negative.
    """
    count = per_query if negatives is not None else 0
    rows = list(_rows(data, negatives or {}, count, seed))
    if not rows:
        raise ConfigError(
            "no training rows could be made",
            where="training_rows",
            got=f"{len(data.qrels):,} queries, which judge all {len(data.documents):,} documents",
            do="give more documents, or use no negatives: negatives.per_query 0",
        )
    return _dataset(rows, count)


def scored_rows(data: TrainingData, negatives: Lists, scores: Scores, *, per_query: int, ids: bool = False) -> Any:
    """The same rows with a teacher's scores `[1 + H]`, floats, as `label`; with `ids` behind the ids `[2 + H]`.

    A query with fewer scored negatives than H has them repeated in turn; pairs whose query has none, or that have no
    score themselves, are left out.

    Raises:
        ConfigError: no row has all its scores.
        ContractError: more queries or documents than a float tells apart.
    """
    if max(len(data.queries), len(data.documents)) > EXACT:
        raise ContractError("too many ids for a label", where="scored_rows", expected=f"<= {EXACT}")
    lists: dict[str, list[str]] = {}
    for query in data.qrels:
        known = [name for name in negatives.get(query, ()) if name in scores.get(query, {})]
        lists[query] = [known[place % len(known)] for place in range(per_query)] if known else []
    queries, names, rows = list(data.queries), list(data.documents), []
    for row in _rows(data, lists, per_query, 0):
        query, *documents = row["label"]
        row_scores = scores.get(queries[query], {})
        values = [row_scores[name] for name in (names[document] for document in documents) if name in row_scores]
        if len(values) == len(documents) and len(lists[queries[query]]) == per_query:
            rows.append({**row, "label": [*map(float, row["label"]), *values] if ids else values})
    if not rows:
        raise ConfigError("no row has a teacher's scores", where="teacher.scores", do=SCORE)
    return _dataset(rows, per_query)


def left_out(data: TrainingData, present: Iterable[tuple[str, str]], why: str) -> str | None:
    """A sentence on the judged pairs that are not among these pairs of texts, with the reason; None if all are."""
    there = {*present}
    lost = [query for query, name in pairs(data) if (data.queries[query], data.answer(query, name)) not in there]
    if not lost:
        return None
    count = sum(1 for _ in pairs(data))
    return f"{len(lost):,} of {count:,} judged pairs were left out, since {why} (queries {first_of(lost)})"


class MovingRows:
    """Rows that can be replaced while a training reads them; `dataset` has their columns over row numbers.

    Samplers see the number of rows alone.

    Args:
        rows: a `datasets.Dataset` to begin with.
    """

    def __init__(self, rows: Any) -> None:
        import datasets

        self.rows = rows
        numbers = {name: range(len(rows)) for name in rows.column_names}
        self.dataset = datasets.Dataset.from_dict(numbers).with_transform(self)

    def __call__(self, numbers: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """The rows of these numbers as they are now."""
        rows: dict[str, list[Any]] = self.rows[next(iter(numbers.values()))]
        return rows

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: `datasets` hashes whatever makes its rows, and would hash all of them."""
        return {}

    def exchange(self, rows: Any) -> None:
        """Use other rows from now on.

        Raises:
            ContractError: they are more or fewer.
        """
        if len(rows) != len(self.rows):
            got, expected = f"{len(rows)} rows", f"{len(self.rows)}, as there were"
            raise ContractError("the new rows differ in number", where="MovingRows", got=got, expected=expected)
        self.rows = rows


def pairs(data: TrainingData) -> Iterator[tuple[str, str]]:
    """Each judged pair (query, document), by query."""
    for query in data.qrels:
        for document in data.relevant(query):
            yield query, document


def _rows(data: TrainingData, negatives: Lists, count: int, seed: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(seed)
    everything = list(data.documents)
    for query, document in pairs(data):
        chosen = _filled_up(data, query, list(negatives.get(query, ())), count, random, everything)
        if len(chosen) < count:
            continue
        texts = [data.queries[query], data.answer(query, document), *(data.documents[name] for name in chosen)]
        ids = [data.query_numbers[query], *(data.document_numbers[name] for name in (document, *chosen))]
        yield {**dict(zip(columns(count), texts, strict=True)), "label": ids}


def _filled_up(
    data: TrainingData, query: str, negatives: list[str], count: int, random: np.random.Generator, everything: list[str]
) -> list[str]:
    """`count` negatives of a query, random ones added if too few were mined; none if there are none at all."""
    judged = data.qrels[query]
    while len(negatives) < count and len(judged) + len(negatives) < len(everything):
        name = everything[int(random.integers(len(everything)))]
        if name not in judged and name not in negatives and data.documents[name]:
            negatives.append(name)
    return [negatives[place % len(negatives)] for place in range(count)] if negatives else []


def _dataset(rows: list[dict[str, Any]], negatives: int) -> Any:
    import datasets

    return datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in [*columns(negatives), "label"]})
