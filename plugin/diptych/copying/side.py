"""`CopySide`: the calls of a copy to either collection, retried when the store fails temporarily."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.errors import CopyError, DiptychError
from diptych.metadata.media_payloads import letters_in
from diptych.metadata.store import update_metadata
from diptych.populate.rejects import reason_of
from diptych.populate.store import retrying
from diptych.slots.consent import place_of
from diptych.stores.scroll import PointId, plain_id

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

REQUEST = 1_000_000  # numbers of vectors in one request: about 20 MB of JSON, where a server takes 32
_LETTERS = 20  # of a payload's media that take as much room as a number

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


class Digest:
    """A digest of a set of points, in whatever order they come: payloads, and vectors as float32."""

    def __init__(self) -> None:
        self._sum, self._count = 0, 0

    def add(self, record: models.Record) -> None:
        """Take in one point."""
        self._sum = (self._sum + int.from_bytes(hash_of_point(record), "big")) % 2**128
        self._count += 1

    def __str__(self) -> str:
        return f"{self._count}:{self._sum:032x}"


def hash_of_point(record: models.Record) -> bytes:
    """A hash of the id, the payload, and the vectors as float32."""
    digest = hashlib.blake2b(hash_of_payload(record), digest_size=16)
    for name, vector in sorted(vectors_of(record).items()):
        digest.update(name.encode())
        for part in arrays(vector):
            digest.update(part.tobytes())
    return digest.digest()


def hash_of_payload(record: models.Record) -> bytes:
    """A hash of the id and the payload."""
    content = json.dumps([plain_id(record.id), record.payload or {}], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def struct(record: models.Record) -> models.PointStruct:
    """The point to write for a point that was read; its values are not validated again."""
    vector: Any = record.vector if record.vector is not None else {}
    return models.PointStruct.model_construct(id=record.id, vector=vector, payload=record.payload)


def vectors_of(record: models.Record) -> Mapping[str, Any]:
    """The point's vectors by name; the unnamed one is called ""."""
    vectors: Any = record.vector
    if vectors is None:
        return {}
    return vectors if isinstance(vectors, Mapping) else {"": vectors}


def arrays(vector: Any) -> tuple[NDArray[Any], ...]:
    """A dense vector or multi-vector as one float32 array; a sparse one as indices, ascending, and their values."""
    if not isinstance(vector, models.SparseVector):
        return (np.asarray(vector, np.float32),)
    indices = np.asarray(vector.indices, np.uint32)
    order = np.argsort(indices)
    return indices[order], np.asarray(vector.values, np.float32)[order]


def pieces(points: Sequence[models.PointStruct]) -> Iterator[list[models.PointStruct]]:
    """The points in lists of at most `REQUEST` numbers, or media of that size, each of at least one point."""
    piece: list[models.PointStruct] = []
    numbers = 0
    for point in points:
        size = sum(map(_numbers, _values(point.vector))) + letters_in(point.payload) // _LETTERS
        if piece and numbers + size > REQUEST:
            yield piece
            piece, numbers = [], 0
        piece.append(point)
        numbers += size
    if piece:
        yield piece


def _values(vector: Any) -> Iterable[Any]:
    return vector.values() if isinstance(vector, Mapping) else (vector,)


def _numbers(vector: Any) -> int:
    if isinstance(vector, models.SparseVector):
        return 2 * len(vector.indices)
    return sum(map(len, vector)) if vector and isinstance(vector[0], list) else len(vector)
