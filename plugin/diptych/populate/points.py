"""Points out of items and their vectors, in the form that the client takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.encoding import Vector
from diptych.payloads import to_payload
from diptych.populate.intake import Item
from diptych.slots import Slot
from diptych.types import SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

REQUEST_BYTES = 16 * 2**20  # half of what a Qdrant server takes in one request
_BYTES_A_NUMBER = 12  # in JSON, roughly
Ready: TypeAlias = "tuple[Item, models.PointStruct]"


class PointMaker:
    """Makes points: whole, with a vector for each slot, and the text that text-index slots index."""

    def __init__(self, client: QdrantBase, slots: Mapping[str, Slot]) -> None:
        from diptych.stores.edge import EdgeClient

        self._numpy = isinstance(client, EdgeClient)
        self._indexed = [slot.vector for slot in slots.values() if slot.kind == "text_index"]
        self._names = {name: slot.vector for name, slot in slots.items()}

    def point(self, item: Item, vectors: Mapping[str, Vector]) -> models.PointStruct:
        """The point of `item`; `vectors` by slot."""
        payload = {**to_payload(item.document, item.hash), **dict.fromkeys(self._indexed, item.input)}
        named = {self._names[slot]: self._form(vector) for slot, vector in vectors.items()}
        return models.PointStruct.model_construct(id=item.point, vector=named, payload=payload)

    def _form(self, vector: Vector) -> Any:
        if isinstance(vector, SparseVector):
            return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
        return vector if self._numpy else vector.tolist()


def requests(points: Sequence[Ready]) -> Iterator[list[Ready]]:
    """The points with their items, in lists that a server takes in one request each."""
    batch: list[Ready] = []
    size = 0
    for item, point in points:
        weight = _weight(point)
        if batch and size + weight > REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((item, point))
        size += weight
    if batch:
        yield batch


def _weight(point: models.PointStruct) -> int:
    vectors: Any = point.vector
    numbers = sum(_numbers(vector) for vector in vectors.values())
    return numbers * _BYTES_A_NUMBER + 4 * len(str(point.payload))


def _numbers(vector: Any) -> int:
    if isinstance(vector, models.SparseVector):
        return 2 * len(vector.indices)
    if isinstance(vector, np.ndarray):
        return int(vector.size)
    return sum(len(row) for row in vector) if isinstance(vector[0], list) else len(vector)
