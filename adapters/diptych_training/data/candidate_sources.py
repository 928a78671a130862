"""Sources of candidates for negatives: a live collection, or the model that is trained, over texts in memory.

A source is anything with the two methods of `CandidateSource`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from diptych import Collection, TenantCollection
from diptych.search import Retrieve
from diptych.types import Document
from diptych_training.precision import Precision, computed_in


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The candidates for one query.

    Args:
        ranking: document ids with their scores, best first; higher is better.
        named: scores of the documents that were named, if they have one; comparable with those of the ranking.
    """

    ranking: Sequence[tuple[str, float]]
    named: Mapping[str, float] = field(default_factory=dict)


class CandidateSource(Protocol):
    """Ranks documents for queries, and returns their texts."""

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """For each query its first `depth` documents, and the scores of the documents named for it."""
        ...

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """The texts, with titles, of the existing ones among these documents."""
        ...


class CollectionSource:
    """A live collection, searched by one slot or by the stages of its config.

    With one slot, named documents get their score in it whatever their rank. A score after a fusion is comparable only
    within its ranking, so with stages named documents have one only if they are among the first `depth`.

    Args:
        collection: open; or a tenant's view of one.
        slot: is asked alone; None for the whole pipeline.
    """

    def __init__(self, collection: Collection | TenantCollection, *, slot: str | None = None) -> None:
        self.collection, self.slot = collection, slot

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`; one request for all rankings, and with a slot another for named documents.

        Raises:
            SearchError: the stages pass on fewer than `depth`, or what else cannot be searched.
        """
        stages = Retrieve(self.slot, depth) if self.slot else None
        hits = self.collection.search_batch(list(queries), limit=depth, pipeline=stages, with_payload=False)
        rankings = [[(hit.id, hit.score) for hit in query_hits] for query_hits in hits]
        if self.slot:
            scores = self.collection.scores(list(queries), named, slot=self.slot)
        else:
            ranked_scores = [dict(ranking) for ranking in rankings]
            scores = [
                {i: ranked[i] for i in ids if i in ranked} for ranked, ids in zip(ranked_scores, named, strict=True)
            ]
        return [SearchResult(*pair) for pair in zip(rankings, scores, strict=True)]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {document.id: text_of(document) for document in self.collection.get(list(ids))}


def text_of(document: Document) -> str:
    """The text of a document for encoders: its title, then its text."""
    return f"{document.title} {document.text}".strip()


class ModelSource:
    """The documents of a mapping, ranked by a model of sentence-transformers.

    Args:
        model: dense, sparse or multi-vector. Documents are encoded when this is made.
        documents: text by id; those without text are not found.
        batch_size: of encoding.
        precision: of encoding.

    `vectors` are the model's of the documents that have text, in their order: a tensor on its device.
    """

    def __init__(
        self, model: Any, documents: Mapping[str, str], *, batch_size: int = 64, precision: Precision = "float32"
    ) -> None:
        self._model, self._batch_size, self._precision = model, batch_size, precision
        self._documents = {name: text for name, text in documents.items() if text}
        self._names = list(self._documents)
        self._places = {name: place for place, name in enumerate(self._names)}
        self.vectors = self._encoded(model.encode_document, list(self._documents.values()))

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`."""
        if not queries:
            return []
        scores = self._model.similarity(self._encoded(self._model.encode_query, queries), self.vectors)
        values, places = scores.topk(min(depth, len(self._names)), dim=1)
        rankings = zip(values.tolist(), places.tolist(), strict=True)
        known_names = [[name for name in names if name in self._places] for names in named]
        return [
            SearchResult(
                [(self._names[place], value) for value, place in zip(row, indices, strict=True)],
                {name: float(row_scores[self._places[name]]) for name in ids},
            )
            for (row, indices), row_scores, ids in zip(rankings, scores, known_names, strict=True)
        ]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {name: self._documents[name] for name in ids if name in self._documents}

    def _encoded(self, encode: Any, texts: Sequence[str]) -> Any:
        with computed_in(self._model, self._precision):
            return encode(list(texts), batch_size=self._batch_size, convert_to_tensor=True, show_progress_bar=False)
