"""Builds points from items and their vectors, and writes them.

`PointMaker` gives points the form that the client takes. A `Sender` has several requests under way at a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
from qdrant_client import models

from diptych.media import MediaStore
from diptych.metadata.payloads import MEDIA, NATIVE, OWN, Layout, letters_in
from diptych.populate.encode import Outcomes, has_vector
from diptych.populate.pace import Pace
from diptych.populate.validate import Item
from diptych.slots.encode import Vector, client_form
from diptych.slots.slot import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

REQUEST_BYTES = 16 * 2**20  # half of what a Qdrant server takes in one request
_BYTES_A_NUMBER, _BYTES_A_POINT = 12, 512  # rough sizes in JSON; the second without the point's numbers and texts
Ready: TypeAlias = "tuple[Item, models.PointStruct]"
T = TypeVar("T")


class PointMaker:
    """Builds complete points: a vector for each slot, and the text for text-index slots."""

    def __init__(self, client: QdrantBase, layout: Layout = NATIVE, media: MediaStore | None = None) -> None:
        from diptych.stores.server_client import Point, ServerClient
        from diptych.stores.versions import looks_at_disk

        server = isinstance(client, ServerClient)
        self._numpy = server or looks_at_disk(client)
        # Their validation is not wanted here, and `model_construct` too is slow for what is made for each document.
        self._point: Any = Point if server else models.PointStruct.model_construct
        self._update: Any = Point if server else models.PointVectors.model_construct
        self._layout, self._media = layout, media

    def ready(
        self, piece: Sequence[Item], outcomes: Outcomes, rows: Iterable[int], slots: Mapping[str, Slot]
    ) -> list[Ready]:
        """The items of these rows, each with its point; outcomes and `slots` are by physical vector."""
        copied = {key: slot.reading for key, slot in slots.items() if slot.kind == "text_index"}
        point, ready = self._point, []
        for row in rows:
            item = piece[row]
            document = item.document
            vectors = {vector: outcome for vector, found in outcomes.items() if has_vector(outcome := found[row])}
            payload = self._layout.write(document, item.hash, item.held, self._media)
            for key, reading in copied.items():
                payload[key] = reading.of(document.title, document.text)
            ready.append((item, point(id=item.point, vector=self.vectors(vectors, slots), payload=payload)))
        return ready

    def update(self, point: int | str, vectors: Mapping[str, Vector], slots: Mapping[str, Slot]) -> Any:
        """New vectors of a point that exists, as `PointVectors`."""
        return self._update(id=point, vector=self.vectors(vectors, slots))

    def vectors(self, vectors: Mapping[str, Vector], slots: Mapping[str, Slot]) -> dict[str, Any]:
        """Vectors by physical name in the client's form, including those of first stages."""
        found: dict[str, Any] = {}
        for name, vector in vectors.items():
            found[name] = vector if self._numpy and isinstance(vector, np.ndarray) else client_form(vector)
            generation = slots[name].generation
            first = generation.first_stage if generation is not None and generation.storage else None
            if first is not None:
                found[first.vector] = found[name][: first.dimension]
        return found


class Unwritable(NamedTuple):
    """A document that cannot be written, and why: the document itself or the store is at fault."""

    item: Item
    reason: str
    document_at_fault: bool


class Stale(Exception):
    """A write was refused because the set of vectors to write has changed."""


class Sender:
    """Sends requests that write points, several at a time where the pace says so; a context manager.

    Other stores than servers get one at a time: reading local mode during a write breaks it.
    """

    def __init__(self, pace: Pace) -> None:
        overlaps = pace.in_flight > 1
        self._threads = ThreadPoolExecutor(pace.in_flight, "write", pace.begin) if overlaps else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until no request is on its way."""
        if self._threads is not None:
            self._threads.shutdown()

    def send(self, write: Callable[[], T]) -> Future[T]:
        """The request: on its way, or made in this thread where requests do not overlap."""
        if self._threads is not None:
            return self._threads.submit(write)
        future = Future[T]()
        try:
            future.set_result(write())
        except BaseException as error:
            future.set_exception(error)
        return future


def refusals(sent: Sequence[Future[list[Unwritable]]]) -> list[Unwritable]:
    """What the store refused of these requests, once all of them are over.

    A request that ended after a later rewrite of its points would undo the rewrite.
    """
    wait(sent)
    return [refusal for one in sent for refusal in one.result()]


def requests(points: Iterable[models.PointStruct], most: int | None = None) -> Iterator[list[models.PointStruct]]:
    """The points in lists that fit one request, each of at most so many points."""
    batch: list[models.PointStruct] = []
    size = 0
    for point in points:
        weight = _weight(point)
        if batch and (size + weight > REQUEST_BYTES or len(batch) == most):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += weight
    if batch:
        yield batch


def _weight(point: models.PointStruct) -> int:
    """About as many bytes as the point takes in a request."""
    vectors: Any = point.vector
    payload: Any = point.payload
    weight = _BYTES_A_POINT
    # In loops, which take half the time of sums over generators.
    for vector in vectors.values() if isinstance(vectors, Mapping) else (vectors,):
        if isinstance(vector, np.ndarray):
            numbers = int(vector.size)
        elif isinstance(vector, models.SparseVector):
            numbers = 2 * len(vector.indices)
        else:
            rows = vector if vector and isinstance(vector[0], list) else [vector]
            numbers = sum(map(len, rows))
        weight += _BYTES_A_NUMBER * numbers
    for key, value in (payload or {}).items():
        if key != OWN:
            weight += 4 * (len(value) if type(value) is str else len(str(value)))
        elif isinstance(value, dict) and MEDIA in value:
            weight += letters_in(payload)
    return weight
