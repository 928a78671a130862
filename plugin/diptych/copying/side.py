"""`CopySide`: the calls of a copy to either collection, retried when the store fails temporarily."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from qdrant_client import models

from diptych.copying.points import pieces
from diptych.errors import CopyError, DiptychError
from diptych.metadata.store import update_metadata
from diptych.populate.rejects import reason_of
from diptych.populate.store import retrying
from diptych.slots.consent import place_of
from diptych.stores.scroll import PointId, plain_id

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

T = TypeVar("T")


class CopySide:
    """One collection of a copy, the source or the target.

    Args:
        client, name: the collection.
        place: how messages and records name the store; asked from the client unless given.
        retries: further tries after a failure that may pass.
    """

    def __init__(self, client: QdrantBase, name: str, *, place: str = "", retries: int = 5) -> None:
        self.client, self.name, self.place = client, name, place or place_of(client)
        self.vectors: bool | list[str] = True  # that are read of a whole point
        self._retrying = retrying(retries, threading.Event())

    def __str__(self) -> str:
        return f"{self.place}, collection {self.name!r}"

    def exists(self) -> bool:
        """Whether the collection exists."""
        return self.call("read from", lambda: self.client.collection_exists(self.name))

    def info(self) -> models.CollectionInfo:
        """Its description from the store."""
        return self.call("read from", lambda: self.client.get_collection(self.name))

    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        return dict(self.info().config.metadata or {})

    def count(self) -> int:
        """Number of points."""
        return self.call("read from", lambda: self.client.count(self.name, exact=True)).count

    def pages(self, size: int, start: PointId | None = None) -> Iterator[tuple[list[models.Record], PointId | None]]:
        """Whole points by id, from `start` on, each page with the id at which the next begins."""
        offset = start
        while True:
            records, next_id = self.call("read from", partial(self._page, size, offset, with_content=True))
            offset = plain_id(next_id)
            if records:
                yield records, offset
            if offset is None:
                return

    def ids(self, size: int) -> Iterator[list[PointId]]:
        """The ids of all points, page by page."""
        offset: PointId | None = None
        while True:
            records, next_id = self.call("read from", partial(self._page, size, offset, with_content=False))
            offset = plain_id(next_id)
            yield [plain_id(record.id) for record in records]
            if offset is None:
                return

    def points(self, ids: Sequence[PointId], *, with_content: bool = True) -> dict[PointId, models.Record]:
        """The existing points among `ids`; with payload and vectors only if `with_content`."""
        retrieve = partial(
            self.client.retrieve, self.name, ids, with_payload=with_content, with_vectors=with_content and self.vectors
        )
        return {plain_id(record.id): record for record in self.call("read from", retrieve)}

    def write(self, points: Sequence[models.PointStruct]) -> None:
        """Upsert whole points in requests of bounded size; on return the store has acknowledged them."""
        for piece in pieces(points):
            self.call("write to", partial(self.client.upsert, self.name, piece, wait=True))

    def delete(self, ids: Sequence[PointId]) -> None:
        """Delete points."""
        selector = models.PointIdsList(points=list(ids))
        self.call("delete from", lambda: self.client.delete(self.name, selector, wait=True))

    def note(self, metadata: dict[str, Any]) -> None:
        """Merge into the collection's metadata in one call; a None deletes its key."""
        # Every QdrantBase takes it; the base class only says **kwargs.
        self.call("write to", lambda: self.client.update_collection(self.name, metadata=metadata))

    def settle(self, metadata: dict[str, Any]) -> None:
        """Merge into the metadata as `note` does, and wait until every node of the store shows it."""
        self.call("write to", partial(update_metadata, self.client, self.name, metadata))

    def _page(self, size: int, start: PointId | None, *, with_content: bool) -> tuple[list[models.Record], Any]:
        vectors = with_content and self.vectors
        return self.client.scroll(self.name, limit=size, offset=start, with_payload=with_content, with_vectors=vectors)

    def call(self, verb: str, request: Callable[[], T]) -> T:
        """The result of `request`, retried while the store fails temporarily; `verb` names the attempt in errors.

        Raises:
            CopyError: the store fails for good.
        """
        try:
            return self._retrying(request)
        except DiptychError:
            raise
        except Exception as error:
            raise CopyError(
                f"cannot {verb} the store",
                where=self,
                got=reason_of(error),
                do="fix the store and run it again: the copy continues where it stopped",
            ) from error
