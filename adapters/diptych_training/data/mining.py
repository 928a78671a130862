"""`mine`: hard negatives, without those that are likely relevant.

    mine(CollectionSource(packages, slot="dense"), queries, qrels, NegativesOptions(per_query=4))

Candidates are what a source ranks in a window of ranks. Left out are documents that are judged relevant, whose text is
a relevant one's, or that score too near the query's best relevant document (`relative`).

Moreira et al., "NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative Mining", 2024: of the rules
tried there, the relative one with 0.95 did best.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from diptych import Collection, TenantCollection
from diptych.search import Retrieve
from diptych.types import Document
from diptych_training.options import NegativesOptions
from diptych_training.running.families import Precision, computed_in

Scored = tuple[str, float]


@dataclass(frozen=True, slots=True)
class MiningReport:
    """The counts of mining: `candidates` is `kept` plus all of `dropped`.

    Args:
        queries: how many were mined for.
        candidates: documents within the window of ranks.
        kept: negatives.
        dropped: how many were left out, by reason: `judged`, `same text`, `near the positive`, `gone` from
            the source meanwhile, `not needed` beyond `per_query`.
        short: queries that got fewer than `per_query`, with how many.
        unscored: queries whose relevant documents have no score, so that nothing was compared with it.
        unjudged: queries without a relevant document, which were not mined for.
    """

    queries: int = 0
    candidates: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    short: Mapping[str, int] = field(default_factory=dict)
    unscored: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        lines = [f"{self.kept} negatives for {self.queries} queries, of {self.candidates} candidates ({reasons})"]
        groups = (("fewer than wanted", self.short), ("positive without a score", self.unscored))
        for words, ids in (*groups, ("without a positive", self.unjudged)):
            if ids:
                examples = ", ".join(islice(ids, 5))
                lines.append(f"{words}: {len(ids)} queries ({examples}{', ...' if len(ids) > 5 else ''})")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Mined:
    """Negatives by query, best score first, and the report."""

    negatives: Mapping[str, Sequence[Scored]]
    report: MiningReport


Qrels = Mapping[str, Mapping[str, float]]
BATCH = 64  # queries that a source is asked at once


def mine(
    source: CandidateSource, queries: Mapping[str, str], qrels: Qrels, options: NegativesOptions | None = None
) -> Mined:
    """Hard negatives of every query that has a relevant document.

    Args:
        source: ranks the candidates.
        queries: text by id.
        qrels: grades above 0 are relevant; a document judged 0 may become a negative.
        options: which candidates count, and how many become negatives: at least one of a query.
    """
    settings = options or NegativesOptions()
    relevant = {query: [d for d, grade in qrels.get(query, {}).items() if grade > 0] for query in queries}
    judged = [query for query in queries if relevant[query]]
    dropped, unscored = Counter[str](), list[str]()
    negatives: dict[str, list[Scored]] = {}
    for batch in batches(judged):
        results = source.find([queries[q] for q in batch], [relevant[q] for q in batch], settings.last_rank)
        window = slice(settings.first_rank - 1, settings.last_rank)
        windows = {query: result.ranking[window] for query, result in zip(batch, results, strict=True)}
        texts = source.texts(list({i for q in batch for i in (*dict(windows[q]), *relevant[q])}))
        for query, result in zip(batch, results, strict=True):
            bar = math.inf
            if result.named and settings.relative is not None:
                best = max(result.named.values())
                bar = best - (1 - settings.relative) * abs(best)
            unscored += [] if result.named else [query]
            relevant_texts = {plain(texts[i]) for i in relevant[query] if i in texts}
            reasons = [_reason(*pair, relevant[query], texts, relevant_texts, bar) for pair in windows[query]]
            passing = [pair for pair, reason in zip(windows[query], reasons, strict=True) if not reason]
            dropped.update([*filter(None, reasons), *["not needed"] * (len(passing) - settings.per_query)])
            negatives[query] = sorted(passing[: settings.per_query], key=lambda pair: -pair[1])
    kept = sum(map(len, negatives.values()))
    report = MiningReport(
        queries=len(judged),
        candidates=kept + dropped.total(),
        kept=kept,
        dropped=dict(dropped),
        short={query: len(pairs) for query, pairs in negatives.items() if len(pairs) < settings.per_query},
        unscored=tuple(unscored),
        unjudged=tuple(query for query in queries if not relevant[query]),
    )
    return Mined(negatives, report)


def _reason(
    candidate: str,
    score: float,
    relevant: Sequence[str],
    texts: Mapping[str, str],
    relevant_texts: set[str],
    bar: float,
) -> str:
    """Why a candidate is left out, "" if it is not."""
    if candidate in relevant:
        return "judged"
    if candidate not in texts:
        return "gone"
    if plain(texts[candidate]) in relevant_texts:
        return "same text"
    return "near the positive" if score > bar else ""


def plain(text: str) -> str:
    """The text without differences of case and spaces."""
    return " ".join(text.casefold().split())


def batches(ids: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    """So many queries at a time."""
    yield from (ids[at : at + size] for at in range(0, len(ids), size))


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
