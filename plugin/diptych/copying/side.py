"""`CopySide`: the calls of a copy to either collection, retried when the store fails temporarily.

Points of source and target are compared within the precision that the vectors' datatype allows.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.errors import CopyError, DiptychError
from diptych.metadata.store import update_metadata
from diptych.populate.points import requests
from diptych.populate.rejects import reason_of
from diptych.populate.store import PointStore
from diptych.slots.consent import place_of
from diptych.stores.scroll import PointId, plain_id

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

NORMALIZED = 1e-6  # of a vector's length: what normalising a second time may change in float32
# Of a vector's length: what a lossy datatype may change in float32, and in what was read from it. Measured with Edge
# 0.9 on 8 and 64 dimensions: 0.16, 0.009 and 0.0005 at most; then 0.031 for turbo4, nothing for the others.
_TURBO = {
    models.Datatype.TURBO4: (0.25, 0.1),
    models.Datatype.TURBO8: (0.03, 0.002),
    models.Datatype.TURBO16: (0.003, 0.0002),
}


T = TypeVar("T")


class CopySide(PointStore):
    """One collection of a copy, the source or the target.

    Args:
        client, name: the collection.
        retries: further tries after a failure that may pass.
    """

    says_what_to_do = (DiptychError,)

    def __init__(self, client: QdrantBase, name: str, *, retries: int) -> None:
        super().__init__(client, name, retries=retries, stopped=threading.Event())
        self.place = place_of(client)  # how messages and records name the store
        self.vectors: bool | list[str] = True  # that are read of a whole point

    def __str__(self) -> str:
        return f"{self.place}, collection {self.name!r}"

    def failed(self, verb: str, error: Exception) -> Exception:
        """The error of a call that failed for good."""
        return CopyError(
            f"cannot {verb} the store",
            where=self,
            got=reason_of(error),
            do="fix the store and run it again: the copy continues where it stopped",
        )

    def exists(self) -> bool:
        """Whether the collection exists."""
        return self.request(lambda: self.client.collection_exists(self.name))

    def info(self) -> models.CollectionInfo:
        """Its description from the store."""
        return self.request(lambda: self.client.get_collection(self.name))

    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        return dict(self.info().config.metadata or {})

    def whole_pages(self, size: int, start: PointId | None = None) -> Iterator[tuple[list[models.Record], Any]]:
        """Whole points by id, from `start` on, each page with the id at which the next begins."""
        return ((records, offset) for records, offset in self.pages(size, start, vectors=self.vectors) if records)

    def ids(self, size: int) -> Iterator[list[PointId]]:
        """The ids of all points, page by page."""
        return ([plain_id(record.id) for record in records] for records, _ in self.pages(size, payload=False))

    def points(self, ids: Sequence[PointId], *, with_content: bool = True) -> dict[PointId, models.Record]:
        """The existing points among `ids`; with payload and vectors only if `with_content`."""
        records = self.records(ids, payload=with_content, vectors=with_content and self.vectors)
        return {plain_id(record.id): record for record in records}

    def write(self, points: Sequence[models.PointStruct]) -> None:
        """Upsert whole points in requests of bounded size; on return the store has acknowledged them."""
        for part in requests(points):
            self.upsert(part)

    def note(self, metadata: dict[str, Any]) -> None:
        """Merge into the collection's metadata in one call; a None deletes its key."""
        # Every QdrantBase takes it; the base class only says **kwargs.
        self.request(lambda: self.client.update_collection(self.name, metadata=metadata), "write to")

    def settle(self, metadata: dict[str, Any]) -> None:
        """Merge into the metadata as `note` does, and wait until every node of the store shows it."""
        self.request(partial(update_metadata, self.client, self.name, metadata), "write to")


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
    content = json.dumps([plain_id(record.id), record.payload or {}], sort_keys=True)
    payload = hashlib.blake2b(content.encode(), digest_size=16)
    digest = hashlib.blake2b(payload.digest(), digest_size=16)
    for name, vector in sorted(vectors_of(record).items()):
        digest.update(name.encode())
        for part in arrays(vector):
            digest.update(part.tobytes())
    return digest.digest()


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


@dataclass(frozen=True, slots=True)
class Rule:
    """How close a vector in the target must be to the source's, given datatype and normalisation.

    Args:
        datatype: in which the vector is kept.
        tolerance: allowed distance, as a share of the vector's length.
        normalized: whether the target makes it of length 1; local mode gives back what it read from disk as it was.
    """

    datatype: models.Datatype | None = None
    tolerance: float = 0.0
    normalized: bool = False

    @classmethod
    def of(cls, params: models.VectorParams, *, keeps_datatype: bool = True) -> Rule:
        """The rule for a dense vector or multi-vector: equality, except for the effects of cosine and lossy datatypes.

        Args:
            kept: whether the source keeps the datatype itself, which local mode does not.
        """
        datatype = params.datatype
        if datatype in _TURBO:
            return cls(datatype, _TURBO[datatype][keeps_datatype])
        if params.distance != models.Distance.COSINE or datatype == models.Datatype.UINT8:
            return cls(datatype)
        return cls(
            datatype, 2.0**-9 if datatype == models.Datatype.FLOAT16 else NORMALIZED, normalized=not keeps_datatype
        )

    def difference(self, source: Any, target: Any) -> str:
        """How the target's vector differs; empty when it does not."""
        source_parts, target_parts = arrays(source), arrays(target)
        shapes = [[part.shape for part in side] for side in (source_parts, target_parts)]
        if shapes[0] != shapes[1]:
            return f"{_shape(source_parts)} in the source, {_shape(target_parts)} in the target"
        if len(source_parts) == 2 and not np.array_equal(source_parts[0], target_parts[0]):
            return "its terms differ"
        return self._distance(self._stored(source_parts[-1]), target_parts[-1])

    def _stored(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector as a store of this datatype returns it."""
        if self.normalized:
            length = np.linalg.norm(vector, axis=-1, keepdims=True)
            vector = np.divide(vector, length, out=vector.copy(), where=length > 0)
        if self.datatype == models.Datatype.UINT8:
            return np.trunc(np.clip(vector, 0, 255))
        if self.datatype == models.Datatype.FLOAT16:
            return vector.astype(np.float16).astype(np.float32)
        return vector

    def _distance(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> str:
        if np.array_equal(source, target):
            return ""
        wide = source.astype(np.float64), target.astype(np.float64)
        length = float(np.linalg.norm(wide[0])) or 1.0
        share = float(np.linalg.norm(wide[1] - wide[0])) / length
        return "" if share <= self.tolerance else f"apart by {share:.3g} of its length, {self.tolerance:.3g} is allowed"


def rules_of(params: models.CollectionParams, *, keeps_datatype: bool = True) -> dict[str, Rule]:
    """The rules for a collection's vectors. Sparse vectors are stored exactly, whatever the datatype of their index."""
    dense: Any = params.vectors or {}
    by_name = {"": dense} if isinstance(dense, models.VectorParams) else dense
    rules = {name: Rule.of(vector_params, keeps_datatype=keeps_datatype) for name, vector_params in by_name.items()}
    return rules | {name: Rule() for name in params.sparse_vectors or {}}


def difference(source: models.Record, target: models.Record | None, rules: Mapping[str, Rule]) -> str:
    """How the target's point differs from the source's; empty when it does not."""
    if target is None:
        return "not in the target"
    if not same(ours := source.payload or {}, theirs := target.payload or {}):
        keys = [key for key in sorted({*ours, *theirs}) if key not in ours or key not in theirs]
        keys += [key for key in sorted(ours.keys() & theirs.keys()) if not same(ours[key], theirs[key])]
        return f"payload, {', '.join(map(repr, keys[:3]))}"
    source_vectors, target_vectors = vectors_of(source), vectors_of(target)
    for name in sorted({*source_vectors, *target_vectors}):
        if (name in source_vectors) != (name in target_vectors):
            return f"vector {name!r}: only in the {'source' if name in source_vectors else 'target'}"
        if what := rules.get(name, Rule()).difference(source_vectors[name], target_vectors[name]):
            return f"vector {name!r}: {what}"
    return ""


def same(source: Any, target: Any) -> bool:
    """Whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(source, Mapping) and isinstance(target, Mapping):
        return source.keys() == target.keys() and all(same(value, target[key]) for key, value in source.items())
    if isinstance(source, list) and isinstance(target, list):
        return len(source) == len(target) and all(map(same, source, target))
    return isinstance(source, bool) == isinstance(target, bool) and bool(source == target)


def _shape(parts: tuple[NDArray[Any], ...]) -> str:
    if len(parts) == 2:
        return f"{len(parts[0])} terms"
    return " x ".join(map(str, parts[0].shape)) + " numbers"
