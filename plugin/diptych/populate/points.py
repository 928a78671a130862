"""Builds points from items and their vectors, in the form that the client takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.media import MediaStore
from diptych.metadata.media_payloads import letters_in
from diptych.metadata.models import Layout
from diptych.metadata.payloads import NATIVE, OWN, to_payload
from diptych.populate.validate import Item
from diptych.slots.encode import Vector
from diptych.slots.slot import Slot
from diptych.types import SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

REQUEST_BYTES = 16 * 2**20  # half of what a Qdrant server takes in one request
_BYTES_A_NUMBER, _BYTES_A_POINT = 12, 512  # in JSON, roughly; of a point beside its numbers and texts
Ready: TypeAlias = "tuple[Item, models.PointStruct]"


class PointMaker:
    """Builds complete points: a vector for each slot, and the text for text-index slots."""

    def __init__(self, client: QdrantBase, layout: Layout = NATIVE, media: MediaStore | None = None) -> None:
        from diptych.stores.server_client import ServerClient
        from diptych.stores.wire import Point
        from qdrant_edge_client import EdgeClient, SharedEdgeClient

        server = isinstance(client, ServerClient)
        self._numpy = server or isinstance(client, EdgeClient | SharedEdgeClient)
        # Their validation is not wanted here, and `model_construct` too is slow for what is made for each document.
        self._point: Any = Point if server else models.PointStruct.model_construct
        self._update: Any = Point if server else models.PointVectors.model_construct
        self._layout, self._media = layout, media

    def ready(self, made: Iterable[tuple[Item, Mapping[str, Vector]]], slots: Mapping[str, Slot]) -> list[Ready]:
        """Each item with its point; vectors and `slots` are by physical vector."""
        copied = {key: slot.reading for key, slot in slots.items() if slot.kind == "text_index"}
        point, ready = self._point, []
        for item, vectors in made:
            document = item.document
            payload = to_payload(document, item.hash, self._layout, item.held, self._media)
            for key, reading in copied.items():
                payload[key] = reading.of(document.title, document.text)
            ready.append((item, point(id=item.point, vector=self.vectors(vectors, slots), payload=payload)))
        return ready

    def update(self, point: int | str, vectors: Mapping[str, Vector], slots: Mapping[str, Slot]) -> Any:
        """New vectors of a point that exists, as `PointVectors`."""
        return self._update(id=point, vector=self.vectors(vectors, slots))

    def vectors(self, vectors: Mapping[str, Vector], slots: Mapping[str, Slot]) -> dict[str, Any]:
        """Vectors by physical name in the client's form, including those of first stages."""
        found = {name: self._form(vector) for name, vector in vectors.items()}
        for name in vectors:
            own = slots[name].generation
            if own is not None and own.first_stage is not None:
                found[own.first_stage.vector] = found[name][: own.first_stage.dimension]
        return found

    def _form(self, vector: Vector) -> Any:
        if isinstance(vector, SparseVector):
            return models.SparseVector.model_construct(indices=vector.indices.tolist(), values=vector.values.tolist())
        return vector if self._numpy else vector.tolist()


def requests(points: Sequence[Ready], most: int | None = None) -> Iterator[list[Ready]]:
    """The points with their items, in lists that fit one request, each of at most so many points."""
    batch: list[Ready] = []
    size = 0
    for item, point in points:
        weight = _weight(point)
        if batch and (size + weight > REQUEST_BYTES or len(batch) == most):
            yield batch
            batch, size = [], 0
        batch.append((item, point))
        size += weight
    if batch:
        yield batch


def _weight(point: models.PointStruct) -> int:
    vectors: Any = point.vector
    payload: Any = point.payload
    numbers = letters = 0  # in loops, which take half the time of sums over generators
    for vector in vectors.values():
        numbers += _numbers(vector)
    for key, value in payload.items():
        if key != OWN:
            letters += len(value) if type(value) is str else len(str(value))
    return numbers * _BYTES_A_NUMBER + 4 * letters + letters_in(payload) + _BYTES_A_POINT


def _numbers(vector: Any) -> int:
    if isinstance(vector, np.ndarray):
        return int(vector.size)
    if isinstance(vector, models.SparseVector):
        return 2 * len(vector.indices)
    return sum(len(row) for row in vector) if isinstance(vector[0], list) else len(vector)
