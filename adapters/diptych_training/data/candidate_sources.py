"""Sources of candidates for negatives: a live collection, or an encoder over texts in memory.

A source is anything with the two methods of `CandidateSource`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from diptych import Collection, TenantCollection
from diptych.errors import ConfigError
from diptych.search import Pipeline, Retrieve
from diptych.types import Document


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
    """A live collection, searched by one slot or by stages.

    With one slot, named documents get their score in it whatever their rank. A score after a fusion is comparable only
    within its ranking, so with stages named documents have one only if they are among the first `depth`.

    Args:
        collection: open; or a tenant's view of one.
        slot: is asked alone.
        pipeline: stages instead; those of the config when neither is given.

    Raises:
        ConfigError: both are given.
    """

    def __init__(
        self,
        collection: Collection | TenantCollection,
        *,
        slot: str | None = None,
        pipeline: Pipeline | None = None,
    ) -> None:
        if slot and pipeline:
            raise ConfigError(
                "both a slot and a pipeline are given", where="CollectionSource", expected="one of them, or neither"
            )
        self.collection, self.slot, self.pipeline = collection, slot, pipeline

    def __repr__(self) -> str:
        searched = self.slot or self.pipeline or "its pipeline"
        return f"CollectionSource({self.collection.name!r}, {searched!r})"

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`; one request for all rankings, and with a slot another for named documents.

        Raises:
            SearchError: the stages pass on fewer than `depth`, or what else cannot be searched.
        """
        stages = Retrieve(self.slot, depth) if self.slot else self.pipeline
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
