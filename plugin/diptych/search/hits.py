"""`Hits` and `Answers`: the lists that searches return, which are data frames and pictures too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import frames
from diptych.metadata.payloads import stored_thumbnail, thumbnail_fields
from diptych.repr_html import ReprHtml
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.types import Hit, Query


class Hits(ReprHtml, list[Hit]):
    """The hits of one query, best first: a list that notebooks show as a table, and that becomes a data frame.

    It compares, copies and serialises as the plain list does. A slice is again one of these; other operations, such as
    `+` and `sorted`, return plain lists.

    Args:
        hits: best first.
        query: what was asked.
        store: where thumbnails of the hits are; None where there are none. Copies have none.
    """

    __slots__ = ("_store", "query")

    def __init__(
        self, hits: Iterable[Hit] = (), *, query: str | Query = "", store: ThumbnailStore | None = None
    ) -> None:
        super().__init__(hits)
        self.query, self._store = query, store

    @overload
    def __getitem__(self, index: SupportsIndex) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Hits: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Hit | Hits:
        found = super().__getitem__(index)
        return Hits(found, query=self.query, store=self._store) if isinstance(found, list) else found

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, ([*self], self.query)  # a copy must not hold on to the store

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each hit; see `diptych.frames.hits` for its columns.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frames.to_pandas(self)

    def thumbnails(self) -> dict[str, bytes]:
        """The small pictures, JPEG or PNG, that the collection holds of these hits, by document id.

        Only collections with `media: {store: thumbnail}` hold some. They are read from the store at each call.

        Raises:
            DiptychError: the store does not answer, or is closed.
        """
        ids = {hit.point: hit.id for hit in self if hit.point is not None and hit.document.media}
        found = self._store.read([*ids]) if self._store and ids else {}
        return {ids[point]: picture for point, picture in found.items()}


class Answers(ReprHtml, list[list[Hit]]):
    """The hits of several queries, in their order: a list of `Hits` that becomes one data frame.

    Args:
        answers: for each query its hits.
        queries: as many.
    """

    __slots__ = ("queries",)

    def __init__(self, answers: Iterable[list[Hit]] = (), *, queries: Sequence[str | Query] = ()) -> None:
        super().__init__(answers)
        self.queries = tuple(queries)

    def __reduce__(self) -> tuple[Any, ...]:
        return _all_restored, ([*self], self.queries)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each hit and a column `query`; see `diptych.frames.answers`.

        Raises:
            MissingExtra: pandas is not installed.
            ValueError: lists were added or removed since the search.
        """
        return frames.to_pandas(self, queries=self.queries)


@dataclass(frozen=True, slots=True)
class ThumbnailStore:
    """Where thumbnails are. A view instead would keep replaced encoders loaded as long as hits live."""

    client: QdrantBase
    name: str
    shard_key: Mapping[str, Any]

    def read(self, points: Sequence[models.ExtendedPointId]) -> dict[models.ExtendedPointId, bytes]:
        """The thumbnails of those points that have one."""
        selector = models.PayloadSelectorInclude(include=thumbnail_fields())
        records = read_store(
            self, lambda: self.client.retrieve(self.name, points, with_payload=selector, **self.shard_key)
        )
        found = {record.id: stored_thumbnail(record.payload) for record in records}
        return {point: picture for point, picture in found.items() if picture is not None}


def answers_of(request: SearchRequest, pages: Iterable[Sequence[Hit]], queries: Sequence[str | Query]) -> Answers:
    """The final hits of each query, as a caller gets them."""
    return Answers([hits_of(request, *pair) for pair in zip(pages, queries, strict=True)], queries=queries)


def hits_of(request: SearchRequest, page: Iterable[Hit], query: str | Query) -> Hits:
    """The final hits of one query, as a caller gets them."""
    view = request.view
    store = ThumbnailStore(view.client, view.name, request.shard_key_selector) if view.has_media else None
    return Hits(page, query=query, store=store)


def _restored(hits: list[Hit], query: str | Query) -> Hits:
    return Hits(hits, query=query)


def _all_restored(answers: list[list[Hit]], queries: Sequence[str | Query]) -> Answers:
    return Answers(answers, queries=queries)
