"""Where a recipe's documents and negatives come from: files and the model itself, or a live collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych import Collection, Document
from diptych_training.corpus import TrainingData
from diptych_training.data.exact import nearest
from diptych_training.options import DataOptions, NegativesOptions, RetrievalOptions
from diptych_training.rows import Lists

Found = dict[str, list[tuple[str, float]]]


def documents_of(options: DataOptions) -> list[Document] | None:
    """The documents of the live collection that `data.collection` names; None when they are in a file.

    Raises:
        ConfigError, StoreError, CollectionError: it cannot be opened.
    """
    if options.collection is None:
        return None
    with Collection.open(options.collection) as collection:
        return list(collection.documents())


def mined(options: RetrievalOptions, data: TrainingData, model: Callable[[], Any]) -> tuple[Lists, str]:
    """Hard negatives of each judged query, the hardest first, and a sentence on them.

    Args:
        options: of the recipe; a collection is searched where `data` names one, else the model searches the documents.
        data: what is trained on.
        model: gives the model that is trained.
    """
    asked = {query: data.queries[query] for query in data.qrels}
    found = nearest(model(), asked, data.documents, options.negatives.last_rank)
    lists = {query: _kept(data, query, own, options.negatives) for query, own in found.items()}
    some = sum(1 for own in lists.values() if own)
    return lists, f"mined negatives of {some:,} of {len(asked):,} queries"


def _kept(data: TrainingData, query: str, found: list[tuple[str, float]], options: NegativesOptions) -> list[str]:
    judged = data.qrels[query]
    best = max((score for name, score in found if judged.get(name, 0) > 0), default=float("inf"))
    limit = min(best - (options.margin or 0), best * options.relative if options.relative else best)
    ranked = found[options.first_rank - 1 :]
    return [name for name, score in ranked if name not in judged and score <= limit]
