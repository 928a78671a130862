"""`LivePoints`: reads and completes the points of a collection to which others write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from qdrant_client import models

from diptych.errors import CollectionNotFound, PopulateError
from diptych.metadata.payloads import text_fields
from diptych.populate.store import Refused, Store
from diptych.stores.scroll import PointId, pages, plain_id
from diptych.stores.server_errors import error_line, not_found

TRIES = 20  # tries for a point that keeps being deleted and rewritten


class LivePoints(Store):
    """The calls that a back-fill makes. A point that was deleted meanwhile is no error: its id is returned.

    Of payloads only the keys that hold the documents' texts are read, and with `media` those of media.
    """

    media = False

    def page(self, offset: Any, size: int) -> tuple[list[models.Record], Any]:
        """Points with texts in the order of their ids from `offset` on, and the offset of what follows."""
        fields = text_fields(self.layout, media=self.media)
        scroll = partial(
            self.client.scroll, self.name, limit=size, offset=offset, with_payload=fields, with_vectors=False
        )
        return self.request(scroll)

    def matching(self, chosen: models.Filter, size: int) -> Iterator[list[models.Record]]:
        """The points that `chosen` finds, page by page."""
        fields = text_fields(self.layout, media=self.media)
        scroll = partial(self.client.scroll, self.name, chosen, limit=size, with_payload=fields)
        return pages(lambda offset: self.request(partial(scroll, offset=offset)))

    def read(self, points: Sequence[PointId]) -> list[models.Record]:
        """The points that are still there, with texts."""
        fields = text_fields(self.layout, media=self.media)
        retrieve = partial(self.client.retrieve, self.name, points, with_payload=fields, with_vectors=False)
        return self.request(retrieve)

    def add_vectors(self, points: Sequence[models.PointVectors]) -> set[PointId]:
        """Give points these vectors beside those they have; returns the ids of points that are gone."""
        write = partial(self.client.update_vectors, self.name, wait=True)
        return self._without_gone({point.id: point for point in points}, write)

    def add_payload(self, payloads: Mapping[PointId, Mapping[str, Any]], key: str | None = None) -> set[PointId]:
        """Give each point these keys beside those it has; returns the ids of points that are gone."""
        operations = {
            point: models.SetPayloadOperation(
                set_payload=models.SetPayload(payload=dict(payload), points=[point], key=key)
            )
            for point, payload in payloads.items()
        }
        return self._without_gone(operations, partial(self.client.batch_update_points, self.name))

    def _without_gone(self, changes: Mapping[Any, Any], write: Callable[[list[Any]], object]) -> set[PointId]:
        """Write to each point that still exists; returns the ids of points that are gone.

        A store refuses the whole request for one missing point. That point may exist again at the next read, because
        its document was deleted and rewritten: then smaller requests are tried, which fewer such changes hit.
        """
        gone: set[PointId] = set()
        left, tries = dict(changes), 0
        while left:
            try:
                self.request(partial(write, list(left.values())), "write to")
                break
            except (Refused, PopulateError) as error:
                missing = left.keys() - self._there(list(left))
                deleted = isinstance(error.__cause__, CollectionNotFound)
                if deleted or not (missing or names_missing_point(error)):
                    raise _refused(self.name, error) from error
            gone |= missing
            left = {point: change for point, change in left.items() if point not in missing}
            if missing:
                continue
            if len(left) > 1:
                return gone.union(*(self._without_gone(half, write) for half in _halves(left)))
            tries += 1
            if tries == TRIES:  # its writers write the new vector too, or a repair fills it
                return gone | left.keys()
        return gone

    def _there(self, points: Sequence[PointId]) -> set[PointId]:
        retrieve = partial(self.client.retrieve, self.name, points, with_payload=False, with_vectors=False)
        return {plain_id(record.id) for record in self.request(retrieve)}


def names_missing_point(error: Exception) -> bool:
    """Whether a store refused a write because a point is not there; each of the clients says so in its own way."""
    cause = error.__cause__
    if isinstance(cause, KeyError) or "no point" in str(cause).lower():
        return True
    return cause is not None and not_found(cause) and "collection" not in error_line(cause).lower()


def _halves(points: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    items = list(points.items())
    return [dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])]


def _refused(name: str, error: Exception) -> Exception:
    if isinstance(error, PopulateError):
        return error
    return PopulateError(
        "the store refuses the new vectors",
        where=f"collection {name!r}",
        got=error_line(error.__cause__ or error),
        do="run diptych apply again; if it fails again, roll back and check the encoder's options",
    )
