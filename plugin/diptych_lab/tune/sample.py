"""`Sample`: some of a slot's vectors to index, queries, and the exact answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.errors import TuneError
from diptych.protocols import Similarity
from diptych.runtime.phases import Progress
from diptych.search import View
from diptych.search.store_calls import read_store
from diptych.slots.slot import Slot
from diptych.types import Floats, Run

T = TypeVar("T")
PAGE = 500  # vectors read in one call
BLOCK = 64  # queries compared with all documents at once
LEAST = 100  # vectors below which nothing can be told


@dataclass(frozen=True, slots=True)
class Sample:
    """Vectors `documents` [n, dimension] and `queries` [m, dimension] of one slot.

    Args:
        points: that the collection holds.
        held_out: whether the queries are vectors of documents, which are not among `documents` then.
    """

    documents: Floats
    queries: Floats
    similarity: Similarity
    points: int
    held_out: bool

    @property
    def whole_numbers(self) -> bool:
        """Whether a byte can hold every number of the documents."""
        return self.similarity != "cosine" and np.array_equal(self.documents, np.clip(np.rint(self.documents), 0, 255))

    def exact(self, depth: int) -> Run:
        """For each query its first `depth` documents with their exact scores; a distance is negative."""
        rankings = {}
        for start in range(0, len(self.queries), BLOCK):
            scores = self._scores(self.queries[start : start + BLOCK])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            for row, ids in enumerate(best):
                rankings[str(start + row)] = [(str(n), float(scores[row, n])) for n in ids]
        return Run("exact", rankings)

    def _scores(self, queries: Floats) -> NDArray[Any]:
        documents = self.documents
        if self.similarity == "euclidean":
            squares = np.square(queries).sum(axis=1)[:, None] + np.square(documents).sum(axis=1)[None]
            return np.array(-np.sqrt(np.maximum(squares - 2 * queries @ documents.T, 0)))
        return np.array(queries @ documents.T)


def draw(view: View, slot: Slot, *, size: int, held_out: int, texts: Sequence[str], progress: Progress) -> Sample:
    """Vectors of at most `size` points, and queries: those of `texts`, or of `held_out` further points.

    Raises:
        TuneError: the slot has no dense vectors, or too few.
    """
    require_dense(slot)
    needed = size + (0 if texts else held_out)
    points = _points(view, slot, needed)
    if len(points) < LEAST:
        raise TuneError(
            "too few vectors for a measurement",
            where=f"collection {view.name!r}, {slot.where}",
            got=f"{len(points)} vectors",
            expected=f"{LEAST} or more",
        )
    np.random.default_rng(0).shuffle(points)
    progress.begin("read", len(points))
    rows: list[Floats] = []
    for _, vector in with_vectors(view, slot, points):
        rows.append(vector)
        progress.advance("read", 1)
    vectors = np.stack(rows)
    count = view.client.count(view.name, exact=True).count
    similarity = slot.similarity or "cosine"
    if similarity == "cosine":  # Qdrant keeps them at length 1, and so compares what is asked
        vectors = unit(vectors)
    if texts:
        queries = np.stack([np.asarray(vector, np.float32) for vector in slot.encode("query", texts)])
        return Sample(vectors, unit(queries) if similarity == "cosine" else queries, similarity, count, False)
    out = min(held_out, len(vectors) // 5)
    return Sample(vectors[out:], vectors[:out], similarity, count, True)


def require_dense(slot: Slot) -> None:
    """Raise TuneError if the slot has no dense vectors."""
    if slot.kind == "dense":
        return
    why = {
        "sparse": "an inverted index is searched exactly, and has none of these settings",
        "text_index": "an inverted index is searched exactly, and has none of these settings",
        "multivector": "its vectors are many for each point, usually only to rescore by",
    }
    raise TuneError(
        "only dense slots are tuned",
        where=slot.where,
        got="a vector for each passage" if slot.passage_vectors else f"kind {slot.kind}: {why[slot.kind]}",
        do="name a dense slot: --slot NAME",
    )


def _points(view: View, slot: Slot, limit: int) -> list[Any]:
    """Ids of random points that have the slot's vector, in id order."""
    having = models.Filter(must=[models.HasVectorCondition(has_vector=slot.vector)])
    response = view.client.query_points(
        view.name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=having,
        limit=limit,
        with_payload=False,
    )
    return sorted((point.id for point in response.points), key=str)


def with_vectors(
    view: View, slot: Slot, points: Sequence[Any], *, payload: bool = False
) -> Iterator[tuple[models.Record, Floats]]:
    """Those of the points that have the slot's vector, each with it."""
    names = [slot.vector] if slot.vector else True  # the unnamed one cannot be asked for by name
    for page in blocks(points, PAGE):
        ask = partial(view.client.retrieve, view.name, [*page], with_payload=payload, with_vectors=names)
        for record in read_store(view, ask):
            vector = record.vector.get(slot.vector) if isinstance(record.vector, dict) else record.vector
            if vector is not None:
                yield record, np.asarray(vector, np.float32)


def unit(rows: Floats) -> Floats:
    """The rows at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
