"""Compares two pipelines without judgements: their answers, through the whole pipeline or one slot, and their times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import numpy as np

from diptych.config.models import SearchConfig
from diptych.errors import ContractError, FingerprintMismatch, MediaError, RegistryError, RemoteError
from diptych.evaluate.ask import BATCH, ask
from diptych.evaluate.comparison import clopper_pearson
from diptych.handle.view import Memo, View
from diptych.media import RawMedia, Readable
from diptych.runtime.phases import detail
from diptych.search import Pipeline, Retrieve
from diptych.search.fusion import PointId
from diptych.search.retrieve import encode_inputs
from diptych.slots.slot import answerable
from diptych.swap.documents import Sampled, sample_points
from diptych.types import Hit, Query

BEGINNING, MIDDLE = "title or first sentence", "eight words from the middle"
QUERIES_SHOWN, HITS, CHARACTERS = 5, 3, 200  # queries side by side, hits of each, characters of a hit

FIRST = 8  # documents or queries that are asked whatever the budget
TOP = 10  # hits that are compared
Clock: TypeAlias = Callable[[], float]
T = TypeVar("T")


@dataclass(slots=True)
class GateMemory:
    """What a gate keeps with a view, whose storage may change before the gate comes to it again.

    Args:
        answers: hits by query and what was asked of them.
        afforded: how many items the budget sufficed for.
        points: those that were sampled.
    """

    answers: dict[object, Sequence[Hit]] = field(default_factory=dict)
    afforded: int | None = None
    points: list[PointId] | None = None


_MEMORY = Memo(lambda view: GateMemory())


def pipeline_of(view: View) -> Pipeline:
    """The view's whole pipeline, slots sorted by name: stored settings lose the order of their keys over gRPC."""
    return _pipeline(view.search_config, view.slots)


def _pipeline(search: SearchConfig, slots: Iterable[str]) -> Pipeline:
    pipeline = Pipeline.from_config(search, slots)
    return replace(pipeline, retrieve=tuple(sorted(pipeline.retrieve, key=lambda branch: branch.slot)))


def searched_otherwise(old: SearchConfig, new: SearchConfig, slots: Collection[str]) -> bool:
    """Whether settings for the same slots can produce other hits or another order; the number of hits is ignored."""
    settings = [(search.score_threshold, search.pin, search.exclude, search.recent) for search in (old, new)]
    return _pipeline(old, slots) != _pipeline(new, slots) or settings[0] != settings[1]


def remembering(view: View) -> View:
    """The view with a cache for `answers`, so that it can be compared after the storage of its vectors has changed."""
    return view if _MEMORY in view.memo else replace(view, memo={**view.memo, _MEMORY: GateMemory()})


def sampled_points(view: View, size: int) -> list[PointId]:
    """A sample of the collection's points, the same one at each call with a view that remembers."""
    memory = _MEMORY.known(view)
    if memory.points is None:
        memory.points = sample_points(view.client, view.name, size)
    return memory.points


def affordable(
    view: View, items: Sequence[T], ask: Callable[[Sequence[T]], object], *, seconds: float, clock: Clock
) -> Sequence[T]:
    """The first of `items`: those that could be asked in so many seconds, but 8 at least.

    `ask` is called with parts of them that double in size, while the time measured so far leaves room. A second call
    returns as many as the first: the storage of the view, which remembers its answers, may have changed since.
    """
    memory = _MEMORY.known(view)
    if memory.afforded is not None:
        return items[: memory.afforded]
    begin, done, part = clock(), 0, FIRST
    while part > 0 and done < len(items):
        ask(items[done : done + part])
        done = min(done + part, len(items))
        spent = clock() - begin
        part = min(2 * part, BATCH, int(done * (seconds - spent) / max(spent, 1e-9)))
        detail(f"{done:,} of {len(items):,}")
    memory.afforded = done
    return items[:done]


def fewer(asked: Sequence[T], items: Sequence[T], what: str, seconds: float) -> tuple[str, ...]:
    """A remark where the budget did not suffice for all items; empty where it did."""
    if len(asked) == len(items):
        return ()
    return (f"{len(asked):,} of {len(items):,} {what} within {seconds:g} s (swap.gate.seconds)",)


def without_common_rerankers(old: View, new: View) -> tuple[Pipeline, Pipeline]:
    """Both pipelines, without their rerankers where both end in the same ones and the same threshold.

    They would cost more than everything else, and can only make two pipelines look more alike.
    """
    before, after = pipeline_of(old), pipeline_of(new)
    if before.rerank != after.rerank or old.search_config.score_threshold != new.search_config.score_threshold:
        return before, after
    return replace(before, rerank=()), replace(after, rerank=())


def query_obstacle(view: View) -> str:
    """Why the view's encoders cannot make a query, such as a retired API; empty if they can."""
    try:
        encode_inputs(view.slots, pipeline_of(view).slots, [Query("a question")])
    except (RegistryError, RemoteError, ContractError, FingerprintMismatch) as error:
        return error.what
    return ""


def alone(slot: str) -> Pipeline:
    """The pipeline of one slot."""
    return Pipeline((Retrieve(slot),))


def answers(
    view: View | None, queries: Sequence[Query], *, depth: int, pipeline: Pipeline | None = None, texts: bool = False
) -> list[Sequence[Hit]]:
    """The hits of each query, best first: `depth` of them, or as many as the pipeline passes on.

    A query that no slot of the pipeline takes, such as a text where all read pictures alone, has none.

    Args:
        view: the view to search; None answers nothing.
        pipeline: instead of the view's own. The view's own, given or not, also drops hits below its score threshold.
        texts: whether hits carry their documents' texts and titles.
    """
    if view is None:
        return [[] for _ in queries]
    cached = _MEMORY.known(view).answers
    key = (depth, repr(pipeline), texts)
    missing = [query for query in dict.fromkeys(queries) if (query, *key) not in cached]
    live_pipeline = pipeline_of(view)
    if not answerable((pipeline or live_pipeline).slots, view.slots, missing):
        hits: Sequence[Sequence[Hit]] = [[] for _ in missing]
    else:
        another, payload = None if pipeline == live_pipeline else pipeline, ["text", "title"] if texts else False
        hits = ask(view, missing, depth=depth, pipeline=another, every_tenant=True, with_payload=payload)
    for query, found in zip(missing, hits, strict=True):
        cached[query, *key] = found
    return [cached[query, *key] for query in queries]


def common_share(old: Sequence[Hit], new: Sequence[Hit]) -> float:
    """The share of common documents among the first ten, relative to the longer answer; two empty ones are alike."""
    before, after = ({hit.id for hit in hits[:TOP]} for hits in (old, new))
    longer = max(len(before), len(after))
    return len(before & after) / longer if longer else 1.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """The share of the first 10 hits that old and new have in common, with documents' beginnings as queries.

    Args:
        of: the slot, or `pipeline` for the whole.
        documents: how many were asked.
        mean: the mean share; `lowest` of a document.
        first: the share of documents whose first hit stays; it says more where the first 10 hold all documents.
    """

    of: str
    documents: int
    mean: float
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
    sides = zip((old, new), pipelines, strict=True)
    before, after = ({view.slots[name].reading.modality for name in pipeline.slots} for view, pipeline in sides)
    # Both pipelines must read it; rerankers read texts only.
    read = before & after & ({"text"} if pipelines[0].rerank or pipelines[1].rerank else before)
    queries = [query for document in documents if (query := _as_query(document, old, read)) is not None]
    if not queries:
        return None
    neighbours = [
        answers(view, queries, depth=TOP + 1, pipeline=pipeline)
        for view, pipeline in zip((old, new), pipelines, strict=True)
    ]
    pairs = [
        tuple([hit for hit in hits if hit.id != query.id] for hits in sides)
        for query, *sides in zip(queries, *neighbours, strict=True)
    ]
    shares = [common_share(*pair) for pair in pairs]
    first = float(np.mean([common_share(before[:1], after[:1]) for before, after in pairs]))
    return Overlap(of, len(shares), float(np.mean(shares)), min(shares), first)


def _as_query(document: Sampled, view: View, read: set[Readable]) -> Query | None:
    if document.item and "text" in read:
        return Query(document.item, document.id)
    media = {name: content for name, content in document.media.items() if name in read}
    try:  # whether they are there as they were indexed: a swap of other slots must not fail for want of them
        readable = view.media is not None and all(view.media.content(own) is not None for own in media.values())
    except MediaError:
        return None
    raw: dict[str, RawMedia] = {name: own for name, own in media.items()}  # noqa: C416
    return Query("", document.id, media=raw) if raw and readable else None


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
        before, after = (
            np.array([any(hit.id == query.id for hit in hits) for query, hits in zip(queries, side, strict=True)])
            for side in sides
        )
        lost, gained, found, size = before & ~after, int((after & ~before).sum()), int(before.sum()), len(queries)
        losses, tail = int(lost.sum()), (1 - confidence) / 4  # four bounds: both ends of losses and of gains
        lost_bounds, gained_bounds = (clopper_pearson(count, size, tail=tail) for count in (losses, gained))
        item = KnownItem(
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
            lost=tuple(queries[row].id for row in np.flatnonzero(lost)[:QUERIES_SHOWN]),
        )
        items.append(item)
    return items[0], items[1]


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
