"""Finds a recipe's documents and negatives: in files with the model itself, or in a live collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych import Collection, Document
from diptych.errors import ConfigError
from diptych.training import read_documents
from diptych_training.corpus import TrainingData
from diptych_training.data.candidate_sources import CandidateSource, CollectionSource
from diptych_training.data.mining import batches, mine
from diptych_training.data.model_candidates import ModelSource
from diptych_training.data.negatives import Mined, MiningOptions
from diptych_training.options import DocumentsOptions, RetrievalOptions
from diptych_training.rows import Lists


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
    negatives = options.negatives
    with searched(options, data, model, slot=negatives.slot) as source:
        result = _mined(source, data, negatives.step(options.seed))
    return _lists(result, data), str(result.report)


def mined_by(model: Any, options: RetrievalOptions, data: TrainingData) -> Lists:
    """Hard negatives of each judged query by the current model, the hardest first."""
    source = ModelSource(model, data.documents, precision=options.training.precision)
    return _lists(_mined(source, data, options.negatives.step(options.seed)), data)


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


def _mined(source: CandidateSource, data: TrainingData, options: MiningOptions) -> Mined:
    return mine(source, {query: data.queries[query] for query in data.qrels}, data.qrels, options)


def _lists(mining: Mined, data: TrainingData) -> dict[str, list[str]]:
    """Only documents of the training data; a live collection may have others."""
    known = data.documents
    return {query: [name for name, _ in ranking if name in known] for query, ranking in mining.negatives.items()}
