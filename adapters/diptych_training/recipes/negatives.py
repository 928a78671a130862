"""Finds a recipe's documents and negatives: in files with the model itself, or in a live collection."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diptych import Collection, Document
from diptych.errors import ConfigError
from diptych.training import read_documents
from diptych_training.corpus import TrainingData
from diptych_training.data.mining import (
    CandidateSource,
    CollectionSource,
    ModelSource,
    batches,
    mine,
)
from diptych_training.options import DocumentsOptions, NegativesOptions, RetrievalOptions
from diptych_training.rows import Lists, pairs

BATCH = 256  # queries that the first stage is asked at once
RELEVANT = 30.0  # label of a relevant document beside 0 of others, whose softmax is 1 beside 1e-13


def documents_of(options: DocumentsOptions) -> Iterator[Document]:
    """The documents that `data` names, one by one: those of a file or of a live collection.

    Raises:
        PopulateError: the file cannot be read.
        ConfigError, StoreError, CollectionError: the collection cannot be opened, or holds no document.
    """
    if options.corpus is not None:
        yield from read_documents(options.corpus)
    if options.collection is not None:
        yield from _live(options.collection)


@contextmanager
def searched(
    options: RetrievalOptions, data: TrainingData, model: Callable[[], Any], *, slot: str | None = None
) -> Iterator[CandidateSource]:
    """The source of candidates: the live collection in `options`, else a model over the documents.

    Args:
        options: of the recipe; encoding is as precise as training.
        data: the documents that a model searches.
        model: gives it; called when there is no collection.
        slot: of the collection; its whole pipeline for None.

    Raises:
        ConfigError, StoreError, CollectionError: the collection cannot be opened.
    """
    if options.data.collection is None:
        yield ModelSource(model(), data.documents, precision=options.training.precision)
        return
    with Collection.open(options.data.collection) as collection:
        yield CollectionSource(collection, slot=slot)


def mined(options: RetrievalOptions, data: TrainingData, model: Callable[[], Any]) -> tuple[Lists, str]:
    """Hard negatives of each judged query, the hardest first, and the counts of all candidates as text.

    Args:
        options: of the recipe; a collection is searched where `data` names one, else the model searches the documents.
        data: what is trained on.
        model: gives the model that is trained.

    Raises:
        SearchError, ConfigError, StoreError, CollectionError: the collection cannot be searched as asked.
    """
    with searched(options, data, model, slot=options.negatives.slot) as source:
        return _mined(source, data, options.negatives)


def mined_by(model: Any, options: RetrievalOptions, data: TrainingData) -> Lists:
    """Hard negatives of each judged query by the current model, the hardest first."""
    source = ModelSource(model, data.documents, precision=options.training.precision)
    return _mined(source, data, options.negatives)[0]


def ranked_by(model: Any, options: RetrievalOptions, data: TrainingData, lists: Lists) -> dict[str, list[str]]:
    """The documents of each query's list, ranked by the current model."""
    texts = {name: data.documents[name] for names in lists.values() for name in names}
    source, query_ids = ModelSource(model, texts, precision=options.training.precision), list(lists)
    ranked: dict[str, list[str]] = {}
    for part in batches(query_ids):
        results = source.find([data.queries[query] for query in part], [lists[query] for query in part], 1)
        for query, result in zip(part, results, strict=True):
            ranked[query] = [name for name, _ in sorted(result.named.items(), key=lambda pair: -pair[1])]
    return ranked


def _live(config: Path) -> Iterator[Document]:
    with Collection.open(config, create=False) as opened:
        documents = iter(opened.documents())
        first = next(documents, None)
        if first is None:
            raise ConfigError(
                f"collection {opened.name!r} of {config} has no documents",
                where="data.collection",
                do="fill it first: diptych populate SOURCE",
            )
        yield first
        yield from documents


def _mined(source: CandidateSource, data: TrainingData, options: NegativesOptions) -> tuple[Lists, str]:
    found = mine(source, {query: data.queries[query] for query in data.qrels}, data.qrels, options)
    known = data.documents  # a live collection may have others
    lists = {query: [name for name, _ in ranking if name in known] for query, ranking in found.negatives.items()}
    return lists, str(found.report)


def found_by(source: CandidateSource, data: TrainingData, queries: Sequence[str], depth: int) -> dict[str, list[str]]:
    """The first `depth` documents of each query, those of the training data alone."""
    found: dict[str, list[str]] = {}
    for part in batches(queries, BATCH):
        rankings = source.find([data.queries[query] for query in part], [[] for _ in part], depth)
        for query, result in zip(part, rankings, strict=True):
            found[query] = [name for name, _ in result.ranking if name in data.documents]
    return found


def first_stage(
    options: RetrievalOptions, data: TrainingData, queries: Sequence[str], depth: int, retriever: Callable[[], Any]
) -> dict[str, list[str]]:
    """The first `depth` documents of each query: from the live collection in `data`, else from a retriever.

    Args:
        options: of the recipe; `negatives.slot` asks one slot of the collection, the whole pipeline else.
        data: queries and documents.
        queries: whose candidates are wanted, by id.
        depth: how many.
        retriever: gives a dense or sparse model; called when there is no collection.

    Raises:
        SearchError, ConfigError, StoreError, CollectionError: the collection cannot be searched as asked.
    """
    with searched(options, data, retriever, slot=options.negatives.slot) as source:
        return found_by(source, data, queries, depth)


def list_rows(
    data: TrainingData, candidates: Lists, *, per_query: int, draws: int = 1, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """A row for each judged pair and draw: the query, the relevant document, and negatives drawn from the candidates.

    Args:
        data: whose judgements are trained on.
        candidates: of each query; what is judged at all is no negative. A query with too few is left out.
        per_query: negatives of a row.
        draws: rows of a pair, each with other negatives.
        seed: of the draws.
    """
    random, label = np.random.default_rng(seed), [RELEVANT] + [0.0] * per_query
    for _ in range(draws):
        for query, positive in pairs(data):
            pool = [name for name in candidates.get(query, ()) if name not in data.qrels[query]]
            if len(pool) < per_query:
                continue
            names = [pool[n] for n in random.permutation(len(pool))[:per_query]]
            texts = [data.answer(query, positive), *(data.documents[name] for name in names)]
            yield {"query": data.queries[query], "documents": texts, "label": label}


class Reranking:
    """nDCG@10 and MRR@10 of candidates ordered by a cross-encoder; documents not among them count as missed.

    Args:
        data: whose judged queries are asked.
        candidates: of each query, in the first stage's order, which decides between equal scores.
        batch_size: of scoring.
    """

    def __init__(self, data: TrainingData, candidates: Lists, *, batch_size: int = 32) -> None:
        self.data, self.batch_size = data, batch_size
        self.candidates = {query: list(candidates.get(query, ())) for query in data.qrels}

    def __call__(self, model: Any) -> dict[str, float]:
        """The values of a model, under the names of sentence-transformers' evaluators."""
        text_pairs = [
            (self.data.queries[q], self.data.documents[d]) for q, names in self.candidates.items() for d in names
        ]
        scored = model.predict(text_pairs, batch_size=self.batch_size, show_progress_bar=False) if text_pairs else ()
        scores = iter(scored)
        ranked = {}
        for query, names in self.candidates.items():
            values = {name: next(scores) for name in names}
            ranked[query] = sorted(names, key=lambda name: -values[name])
        return self.values(ranked)

    def first(self) -> dict[str, float]:
        """The values of the first stage's own order."""
        return self.values(self.candidates)

    def values(self, ranked: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """Means over the queries."""
        grades = [([self.data.qrels[q].get(name, 0.0) for name in names], q) for q, names in ranked.items()]
        ndcg = [_dcg(gains[:10]) / _dcg(sorted(self.data.qrels[q].values(), reverse=True)[:10]) for gains, q in grades]
        mrr = [next((1 / rank for rank, grade in enumerate(gains[:10], 1) if grade > 0), 0.0) for gains, _ in grades]
        return {"ndcg@10": float(np.mean(ndcg)), "mrr@10": float(np.mean(mrr))}


def _dcg(grades: Sequence[float]) -> float:
    return sum(max(grade, 0.0) / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
