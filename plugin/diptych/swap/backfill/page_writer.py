"""`PageWriter`: writes the new vectors of a page, at a server in several requests at a time if the pace allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.media import MediaStore
from diptych.metadata.media_payloads import media_in, payload_of
from diptych.metadata.payloads import NATIVE, OWN
from diptych.populate.encode import has_vector
from diptych.populate.engine import Outcomes
from diptych.populate.points import PointMaker
from diptych.populate.validate import Item
from diptych.slots.slot import Slot
from diptych.swap.backfill.live_points import LivePoints
from diptych.swap.pace import Pace

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


class PageWriter:
    """Writes vectors, and the texts of text indexes, of points that exist.

    Args:
        store, client: the collection.
        slots: whose vectors are written, by physical vector.
        pace: in what parts, when, and how many at a time.
        media: says what of media is stored, where a source has media that the points do not name yet.
    """

    def __init__(
        self, store: LivePoints, client: QdrantBase, slots: Mapping[str, Slot], pace: Pace, media: MediaStore
    ) -> None:
        self._store, self._slots, self._pace, self._media = store, slots, pace, media
        self._points = PointMaker(client)
        self._copied = {key: slot.reading for key, slot in slots.items() if slot.kind == "text_index"}
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Within the block, requests may overlap where the pace allows it; none is on its way at the end."""
        if self._pace.in_flight == 1:
            yield
            return
        try:
            with ThreadPoolExecutor(self._pace.in_flight, "write", self._pace.begin) as self._threads:
                yield
        finally:
            self._threads = None

    def begin(self, page: Sequence[Item], outcomes: Outcomes, rows: Sequence[int]) -> list[Future[int]]:
        """Begin to write these rows of a page; for each request, how many points it gives vectors."""
        sent = [self._sent(partial(self._add_vectors, page, outcomes, part)) for part in self._pace.parts(rows)]
        # Copies go to the whole page, not to `rows`: an encoder that fails on a document does not concern a text index.
        copied = self._pace.parts(page) if self._copied else ()
        sent += [self._sent(partial(self._add_copies, part)) for part in copied]
        media = [page[row] for row in rows if page[row].document.media]
        # Only media that the point does not name yet, such as those of a source.
        news = [item for item in media if item.document.media.keys() - media_in(_own(item)).keys()]
        return [*sent, *(self._sent(partial(self._add_media, part)) for part in self._pace.parts(news))]

    def _sent(self, write: Callable[[], int]) -> Future[int]:
        """The request: on its way, or made in this thread where requests do not overlap."""
        if self._threads is not None:
            return self._threads.submit(write)
        future = Future[int]()
        future.set_result(write())
        return future

    def _add_vectors(self, page: Sequence[Item], outcomes: Outcomes, rows: Sequence[int]) -> int:
        updates: list[models.PointVectors] = []
        for row in rows:
            made = {vector: outcome for vector, results in outcomes.items() if has_vector(outcome := results[row])}
            updates.append(self._points.update(page[row].point, made, self._slots))
        return len(rows) - len(self._store.add_vectors(updates))

    def _add_media(self, page: Sequence[Item]) -> int:
        """Write what a later swap, and `verify`, must know of media that came from a source."""
        # The hash covers media: with the old one, the next populate would take the same document for a changed one.
        hashed = self._store.layout == NATIVE
        self._store.add_payload(
            {
                item.point: {
                    **payload_of(item.document, self._media),
                    **({"hash": item.document.content_hash()} if hashed else {}),
                }
                for item in page
            },
            key=OWN,
        )
        return 0

    def _add_copies(self, page: Sequence[Item]) -> int:
        """Write what text-index slots index."""
        copied = self._copied.items()
        self._store.add_payload(
            {
                item.point: {key: reading.of(item.document.title, item.document.text) for key, reading in copied}
                for item in page
            }
        )
        return 0


def _own(item: Item) -> Mapping[str, Any]:
    return (item.held or {}).get(OWN) or {}
