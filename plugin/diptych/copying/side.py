"""`Side`: the calls of a copy to either collection, retried when the store fails temporarily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity
from qdrant_client import models

from diptych.copying.points import PointId, pieces, plain_id
from diptych.copying.store_names import place_of
from diptych.errors import CopyError, DiptychError
from diptych.populate.rejects import reason_of
from diptych.populate.store import FIRST_PAUSE, LONGEST_PAUSE, may_pass

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

T = TypeVar("T")


class Side:
    """One collection of a copy, the source or the target.

    Args:
        client, name: the collection.
        place: how messages and records name the store; asked from the client unless given.
        retries: further tries after a failure that may pass.
        first_pause: seconds before the second try.
    """

    def __init__(
        self, client: QdrantBase, name: str, *, place: str = "", retries: int = 5, first_pause: float = FIRST_PAUSE
    ) -> None:
        self.client, self.name, self.place = client, name, place or place_of(client)
        self.vectors: bool | list[str] = True  # that are read of a whole point
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_pass),
            stop=tenacity.stop_after_attempt(retries + 1),
            wait=tenacity.wait_exponential(first_pause, LONGEST_PAUSE) + tenacity.wait_random(0, first_pause),
            reraise=True,
        )

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
            records, following = self.call("read from", partial(self._page, size, offset, whole=True))
            offset = plain_id(following)
            if records:
                yield records, offset
            if offset is None:
                return

    def ids(self, size: int) -> Iterator[list[PointId]]:
        """The ids of all points, page by page."""
        offset: PointId | None = None
        while True:
            records, following = self.call("read from", partial(self._page, size, offset, whole=False))
            offset = plain_id(following)
            yield [plain_id(record.id) for record in records]
            if offset is None:
                return

    def points(self, ids: Sequence[PointId], *, whole: bool = True) -> dict[PointId, models.Record]:
        """The existing points among `ids`; with payload and vectors only if `whole`."""
        read = partial(self.client.retrieve, self.name, ids, with_payload=whole, with_vectors=whole and self.vectors)
        return {plain_id(record.id): record for record in self.call("read from", read)}

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

    def _page(self, size: int, start: PointId | None, *, whole: bool) -> tuple[list[models.Record], Any]:
        vectors = whole and self.vectors
        return self.client.scroll(self.name, limit=size, offset=start, with_payload=whole, with_vectors=vectors)

    def call(self, verb: str, act: Callable[[], T]) -> T:
        """The result of `act`, retried while the store fails temporarily; `verb` names the attempt in errors.

        Raises:
            CopyError: the store fails for good.
        """
        try:
            return self._retrying(act)
        except DiptychError:
            raise
        except Exception as error:
            raise CopyError(
                f"cannot {verb} the store",
                where=self,
                got=reason_of(error),
                do="see to the store and run it again: the copy continues where it stopped",
            ) from error
