"""Compares two pipelines without judgements: common neighbours, known items, and queries side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import MediaError
from diptych.evaluate.comparison import clopper_pearson
from diptych.handle.snapshot import View
from diptych.media import Media, RawMedia, Readable
from diptych.search import Pipeline
from diptych.swap.gate.answers import TOP, answers, common_share
from diptych.swap.sample import Sampled
from diptych.types import Hit, Query

BEGINNING, MIDDLE = "title or first sentence", "eight words from the middle"
QUERIES_SHOWN, HITS, CHARACTERS = 5, 3, 200  # queries side by side, hits of each, characters of a hit


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of the first 10 hits that old and new have in common, with documents' beginnings as queries.

    Args:
        of: the slot, or `pipeline` for the whole.
        documents: how many were asked.
        mean: the mean share; `lowest` and `median` of the documents.
        first: the share of documents whose first hit stays; it says more where the first 10 hold all documents.
    """

    of: str
    documents: int
    mean: float
    median: float
    lowest: float
    first: float = 1.0


@dataclass(frozen=True, slots=True)
class KnownItem:
    """How often a query made from a document finds it among the first 10.

    Args:
        of: the slot, or `pipeline` for the whole.
        by: which words.
        documents: how many were asked.
        old, new: the shares found.
        difference: new minus old; `low` and `high` come from exact bounds of the shares lost and gained.
        found: documents that the old pipeline finds; `losses` of them the new one does not.
        most_lost: exact one-sided upper bound of losses / found.
        lost: ids of some documents that only the old pipeline finds.
    """

    of: str
    by: str
    documents: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    found: int
    losses: int
    most_lost: float
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A query and how the hits of either pipeline begin, best first, each with its id."""

    query: str
    common: float
    old: tuple[str, ...]
    new: tuple[str, ...]


def neighbour_overlap(
    of: str, old: View, new: View, documents: Sequence[Sampled], pipelines: tuple[Pipeline, Pipeline]
) -> Overlap | None:
    """How alike the neighbours of sampled documents are; each document is removed from its own neighbours.

    A document is asked for by its title or first sentence, and in slots of media, or without a text, by its media. None
    where no document can be asked for.
    """
    read = _read_by_both((old, new), pipelines)
    queries = [query for document in documents if (query := _as_query(document, old, read)) is not None]
    if not queries:
        return None
    neighbours = [
        answers(view, queries, depth=TOP + 1, pipeline=pipeline)
        for view, pipeline in zip((old, new), pipelines, strict=True)
    ]
    pairs = [
        (_others(before, query.id), _others(after, query.id))
        for query, before, after in zip(queries, *neighbours, strict=True)
    ]
    shares = [common_share(*pair) for pair in pairs]
    first = float(np.mean([common_share(before[:1], after[:1]) for before, after in pairs]))
    return Overlap(of, len(shares), float(np.mean(shares)), float(np.median(shares)), min(shares), first)


def _read_by_both(views: tuple[View, View], pipelines: tuple[Pipeline, Pipeline]) -> set[Readable]:
    """The modalities in which both pipelines can be asked for a document; rerankers read texts only."""
    sides = zip(views, pipelines, strict=True)
    before, after = ({view.slots[name].reading.modality for name in pipeline.slots} for view, pipeline in sides)
    reranked = pipelines[0].rerank or pipelines[1].rerank
    return before & after & {"text"} if reranked else before & after


def _as_query(document: Sampled, view: View, read: set[Readable]) -> Query | None:
    if document.item and "text" in read:
        return Query(document.item, document.id)
    media: dict[str, RawMedia] = {name: content for name, content in document.media.items() if name in read}
    readable = all(_is_readable(view, content) for name, content in document.media.items() if name in read)
    return Query("", document.id, media=media) if media and readable else None


def _is_readable(view: View, media: Media) -> bool:
    """Whether it is there as it was indexed; a swap of other slots must not fail for want of it."""
    try:
        return view.media is not None and view.media.content(media) is not None
    except MediaError:
        return False


def takes_words(view: View, pipeline: Pipeline) -> bool:
    """Whether a slot of the pipeline can be asked in words."""
    return any(view.slots[name].takes_texts for name in pipeline.slots)


def known_items(
    of: str,
    old: View | None,
    new: View,
    documents: Sequence[Sampled],
    pipelines: tuple[Pipeline, Pipeline],
    *,
    confidence: float,
) -> tuple[KnownItem, KnownItem]:
    """How often titles or first sentences, and excerpts, find their documents; `old` may be None, which finds none."""
    both, items = list(zip((old, new), pipelines, strict=True)), []
    for by, texts in ((BEGINNING, [d.item for d in documents]), (MIDDLE, [d.excerpt for d in documents])):
        queries = [Query(text, document.id) for text, document in zip(texts, documents, strict=True)]
        sides = [answers(view, queries, depth=TOP, pipeline=pipeline) for view, pipeline in both]
        items.append(_known_item(of, by, queries, sides, confidence))
    return items[0], items[1]


def _known_item(
    of: str, by: str, queries: Sequence[Query], sides: Sequence[Sequence[Sequence[Hit]]], confidence: float
) -> KnownItem:
    before, after = (
        np.array([any(hit.id == query.id for hit in hits) for query, hits in zip(queries, side, strict=True)])
        for side in sides
    )
    lost, gained, found, size = before & ~after, int((after & ~before).sum()), int(before.sum()), len(queries)
    losses, tail = int(lost.sum()), (1 - confidence) / 4  # four bounds: both ends of losses and of gains
    lost_bounds, gained_bounds = (clopper_pearson(count, size, tail=tail) for count in (losses, gained))
    return KnownItem(
        of=of,
        by=by,
        documents=size,
        old=float(before.mean()),
        new=float(after.mean()),
        difference=float(after.mean() - before.mean()),
        low=gained_bounds[0] - lost_bounds[1],
        high=gained_bounds[1] - lost_bounds[0],
        found=found,
        losses=losses,
        most_lost=clopper_pearson(losses, found, tail=1 - confidence)[1] if found else 1.0,
        lost=tuple(queries[row].id for row in np.flatnonzero(lost)[:QUERIES_SHOWN]),
    )


def side_by_side(
    old: View | None, new: View, documents: Sequence[Sampled], pipelines: tuple[Pipeline, Pipeline]
) -> tuple[SideBySide, ...]:
    """Titles or first sentences whose first hits differ, the most different first; `old` may be None."""
    queries = list({document.item: Query(document.item, document.id) for document in documents}.values())
    before, after = (
        answers(view, queries, depth=TOP, pipeline=pipeline, texts=True)
        for view, pipeline in zip((old, new), pipelines, strict=True)
    )
    rows = [
        SideBySide(query.text, common_share(a, b), _shown(a), _shown(b))
        for query, a, b in zip(queries, before, after, strict=True)
        if [hit.id for hit in a[:HITS]] != [hit.id for hit in b[:HITS]]
    ]
    return tuple(sorted(rows, key=lambda row: row.common)[:QUERIES_SHOWN])


def _shown(hits: Sequence[Hit]) -> tuple[str, ...]:
    texts = (" ".join(f"{hit.id}: {hit.document.title} {hit.document.text}".split()) for hit in hits[:HITS])
    return tuple(text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…" for text in texts)


def _others(hits: Sequence[Hit], document: str) -> list[Hit]:
    return [hit for hit in hits if hit.id != document]
