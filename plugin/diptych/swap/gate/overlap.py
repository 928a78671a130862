"""Compares two pipelines without judgements: common neighbours, known items, and queries side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from diptych.errors import MediaError
from diptych.evaluate.significance import bootstrap_means
from diptych.handle.snapshot import View
from diptych.media import Media, RawMedia, Readable
from diptych.search import Pipeline
from diptych.swap.gate.answers import answers
from diptych.swap.sample import Sampled
from diptych.types import Hit, Query

DEPTH = 10
BEGINNING, MIDDLE = "title or first sentence", "eight words from the middle"
SAMPLES, SEED = 10_000, 0
QUERIES_SHOWN, HITS, CHARACTERS = 5, 3, 200  # queries side by side, hits of each, characters of a hit


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of the first 10 hits that old and new have in common, with documents' beginnings as queries.

    Args:
        of: the slot, or `pipeline` for the whole.
        documents: how many were asked.
        mean: the mean share; `lowest` and `median` of the documents.
    """

    of: str
    documents: int
    mean: float
    median: float
    lowest: float


@dataclass(frozen=True, slots=True)
class KnownItem:
    """How often a query made from a document finds it among the first 10.

    Args:
        by: which words.
        documents: how many were asked.
        old, new: the shares found.
        difference: new minus old, `low` and `high` its paired bootstrap interval.
        lost: ids of some documents that only the old pipeline finds.
    """

    by: str
    documents: int
    old: float
    new: float
    difference: float
    low: float
    high: float
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A query and how the hits of either pipeline begin, best first; a hit without text has its id instead."""

    query: str
    common: float
    old: tuple[str, ...]
    new: tuple[str, ...]


KnownItems: TypeAlias = tuple[KnownItem, KnownItem, tuple[SideBySide, ...]]


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
        answers(view, queries, depth=DEPTH + 1, pipeline=pipeline)
        for view, pipeline in zip((old, new), pipelines, strict=True)
    ]
    shares = [
        _share(_others(before, query.id), _others(after, query.id))
        for query, before, after in zip(queries, *neighbours, strict=True)
    ]
    return Overlap(of, len(shares), float(np.mean(shares)), float(np.median(shares)), min(shares))


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
    old: View | None,
    new: View,
    documents: Sequence[Sampled],
    pipelines: tuple[Pipeline, Pipeline],
    *,
    confidence: float,
) -> KnownItems:
    """How often titles or first sentences, and excerpts, find their documents; and queries side by side.

    Those shown are titles or first sentences, evenly spread from where the two answers differ most to where they differ
    least. `old` None answers nothing.
    """
    items = [Query(document.item, document.id) for document in documents]
    excerpts = [Query(document.excerpt, document.id) for document in documents]
    both = list(zip((old, new), pipelines, strict=True))
    before, after = (answers(view, items, depth=DEPTH, pipeline=pipeline, texts=True) for view, pipeline in both)
    excerpts_before, excerpts_after = (
        answers(view, excerpts, depth=DEPTH, pipeline=pipeline) for view, pipeline in both
    )
    return (
        _known_item(BEGINNING, items, before, after, confidence),
        _known_item(MIDDLE, excerpts, excerpts_before, excerpts_after, confidence),
        _side_by_side(items, before, after),
    )


def _known_item(
    by: str, queries: Sequence[Query], old: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]], confidence: float
) -> KnownItem:
    before, after = (
        np.array([any(hit.id == query.id for hit in hits) for query, hits in zip(queries, side, strict=True)])
        for side in (old, new)
    )
    gaps = after.astype(np.float64) - before
    tail = (1 - confidence) / 2
    # Plain percentiles, which need no scipy: of 200 documents, Hesterberg's expanded ones are less than 1% wider.
    low, high = np.quantile(bootstrap_means(gaps, samples=SAMPLES, seed=SEED), [tail, 1 - tail])
    lost = [query.id for query, gap in zip(queries, gaps, strict=True) if gap < 0]
    return KnownItem(
        by=by,
        documents=len(queries),
        old=float(before.mean()),
        new=float(after.mean()),
        difference=float(gaps.mean()),
        low=float(low),
        high=float(high),
        lost=tuple(lost[:QUERIES_SHOWN]),
    )


def _side_by_side(
    queries: Sequence[Query], old: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]]
) -> tuple[SideBySide, ...]:
    shares = [_share([hit.id for hit in a], [hit.id for hit in b]) for a, b in zip(old, new, strict=True)]
    order = sorted(range(len(queries)), key=shares.__getitem__)
    steps = np.linspace(0, len(order) - 1, min(QUERIES_SHOWN, len(order))).round().astype(int)
    rows = [order[step] for step in steps]
    return tuple(SideBySide(queries[row].text, shares[row], _shown(old[row]), _shown(new[row])) for row in rows)


def _shown(hits: Sequence[Hit]) -> tuple[str, ...]:
    texts = (" ".join(f"{hit.document.title} {hit.document.text}".split()) or hit.id for hit in hits[:HITS])
    return tuple(text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…" for text in texts)


def _others(hits: Sequence[Hit], document: str) -> list[str]:
    return [hit.id for hit in hits if hit.id != document][:DEPTH]


def _share(old: Sequence[str], new: Sequence[str]) -> float:
    """The share of common documents, relative to the longer answer; two empty answers are alike."""
    longer = max(len(old), len(new))
    return len(set(old) & set(new)) / longer if longer else 1.0
