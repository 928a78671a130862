"""The two sides of a copy: `CopySide` makes the calls to either, retried when the store fails temporarily.

The target is created like the source, or compared with it, and holds the record of the copy in its metadata. Points are
compared within the precision that the vectors' datatype allows.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from qdrant_client import models

from diptych.errors import CopyError, DiptychError, StoreUnsupported
from diptych.metadata.models import Record
from diptych.metadata.store import APPLY, CLAIM, COPY, GATE, RETIRED, StoredId, update_metadata
from diptych.populate.points import requests
from diptych.populate.rejects import reason_of
from diptych.populate.store import PointStore
from diptych.registry import Registry
from diptych.runtime.validation_messages import expectation
from diptych.slots.consent import place_of
from diptych.stores.scroll import PointId, plain_id
from diptych.stores.versions import is_local

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.metadata.models import CollectionMetadata

NORMALIZED = 1e-6  # of a vector's length: what normalising a second time may change in float32
# Of a vector's length: what a lossy datatype may change in float32, and in what was read from it. Measured with Edge
# 0.9 on 8 and 64 dimensions: 0.16, 0.009 and 0.0005 at most; then 0.031 for turbo4, nothing for the others.
_TURBO = {
    models.Datatype.TURBO4: (0.25, 0.1),
    models.Datatype.TURBO8: (0.03, 0.002),
    models.Datatype.TURBO16: (0.003, 0.0002),
}
# Qdrant's own defaults: what a store reports although nobody set it is left to the target.
_DEFAULTS: dict[str, tuple[object, ...]] = {
    "m": (16,),
    "ef_construct": (100,),
    "full_scan_threshold": (10_000,),
    "max_indexing_threads": (0,),
    "deleted_threshold": (0.2,),
    "vacuum_min_vector_number": (1000,),
    "default_segment_number": (0,),
    "indexing_threshold": (10_000, 20_000),
    "flush_interval_sec": (5,),
    "max_optimization_threads": (1,),
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
        """Take in one point: its id, its payload, and its vectors as float32."""
        content = json.dumps([plain_id(record.id), record.payload or {}], sort_keys=True)
        payload = hashlib.blake2b(content.encode(), digest_size=16)
        digest = hashlib.blake2b(payload.digest(), digest_size=16)
        for name, vector in sorted(vectors_of(record).items()):
            digest.update(name.encode())
            for part in arrays(vector):
                digest.update(part.tobytes())
        self._sum = (self._sum + int.from_bytes(digest.digest(), "big")) % 2**128
        self._count += 1

    def __str__(self) -> str:
        return f"{self._count}:{self._sum:032x}"


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
            return f"{_extent(source_parts)} in the source, {_extent(target_parts)} in the target"
        if len(source_parts) == 2 and not np.array_equal(source_parts[0], target_parts[0]):
            return "its terms differ"
        vector, returned = source_parts[-1], target_parts[-1]
        if self.normalized:
            length = np.linalg.norm(vector, axis=-1, keepdims=True)
            vector = np.divide(vector, length, out=vector.copy(), where=length > 0)
        if self.datatype == models.Datatype.UINT8:  # as a store of this datatype returns it
            vector = np.trunc(np.clip(vector, 0, 255))
        elif self.datatype == models.Datatype.FLOAT16:
            vector = vector.astype(np.float16).astype(np.float32)
        if np.array_equal(vector, returned):
            return ""
        wide = vector.astype(np.float64), returned.astype(np.float64)
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


def _extent(parts: tuple[NDArray[Any], ...]) -> str:
    if len(parts) == 2:
        return f"{len(parts[0])} terms"
    return " x ".join(map(str, parts[0].shape)) + " numbers"


def create(
    source: CopySide,
    target: CopySide,
    info: models.CollectionInfo,
    metadata: dict[str, Any],
    unused: Collection[str] = (),
) -> None:
    """Create the target with the source's vectors, HNSW, quantization, datatypes and storage, and `metadata`.

    `unused` names vectors that are left out.

    Raises:
        StoreUnsupported: the source's shards are addressed by keys, which a copy would lose.
    """
    params = info.config.params
    if params.sharding_method == models.ShardingMethod.CUSTOM:
        what = "a collection with shard keys cannot be copied: its points would lose their keys"
        raise StoreUnsupported(what, where=source, do="use Qdrant's snapshots")
    settings = {
        "hnsw_config": _diff(models.HnswConfigDiff, info.config.hnsw_config),
        "optimizers_config": _diff(models.OptimizersConfigDiff, info.config.optimizer_config),
        "quantization_config": info.config.quantization_config,
        "on_disk_payload": params.on_disk_payload,
        "payload": params.payload,
        "id_tracker": params.id_tracker,
    }
    create_target = partial(
        target.client.create_collection,
        target.name,
        vectors_config=_dense(params, unused),
        sparse_vectors_config=_sparse(params, unused) or None,
        metadata=metadata,
        **{name: value for name, value in settings.items() if value is not None},
    )
    target.request(create_target, "create a collection in")


def shapes(params: models.CollectionParams, unused: Collection[str] = ()) -> dict[str, str]:
    """What decides whether a vector of one collection fits into another, by name and in words."""
    dense: Any = _dense(params, unused)
    by_name = {"": dense} if isinstance(dense, models.VectorParams) else dense
    dense_shapes = {name: _shape(vector_params) for name, vector_params in by_name.items()}
    return dense_shapes | {
        name: f"sparse {own.modifier.value}" if own.modifier not in (None, models.Modifier.NONE) else "sparse"
        for name, own in _sparse(params, unused).items()
    }


def require_same(
    source: CopySide,
    target: CopySide,
    source_info: models.CollectionInfo,
    target_info: models.CollectionInfo,
    unused: Collection[str] = (),
) -> None:
    """Raise CopyError when the two sides' vectors cannot hold the same points."""
    source_shapes, target_shapes = shapes(source_info.config.params, unused), shapes(target_info.config.params)
    if source_shapes == target_shapes:
        return
    names = [
        name for name in sorted({*source_shapes, *target_shapes}) if source_shapes.get(name) != target_shapes.get(name)
    ]
    raise CopyError(
        "source and target have different vectors",
        where=target,
        got=", ".join(f"{name!r}: {target_shapes.get(name, 'none')}" for name in names),
        expected=", ".join(f"{name!r}: {source_shapes.get(name, 'none')}" for name in names),
        do="the source's encoders were swapped since, or the target's: copy under another name: --as NAME",
    )


def ensure_indexes(target: CopySide, schemas: Mapping[str, Any]) -> None:
    """Create the payload indexes that are missing in the target.

    Raises:
        CopyError: a field is indexed as another type there.
    """
    existing = target.info().payload_schema
    for field, schema in schemas.items():
        if is_local(target.client) and not isinstance(schema, models.TextIndexParams):
            continue  # of no use there, and it warns
        if field not in existing:
            create = partial(target.client.create_payload_index, target.name, field, schema, wait=True)
            target.request(create, "write to")
        elif (actual := existing[field].data_type) != (
            kind := models.PayloadSchemaType(getattr(schema, "type", schema))
        ):
            where = f"{target}, field {field!r}"
            do = "drop the index in the target and run it again"
            raise CopyError("a field is indexed as another type", where=where, got=actual.value, expected=kind, do=do)


def indexes_of(
    source: CopySide, info: models.CollectionInfo, metadata: CollectionMetadata | None, registry: Registry | None
) -> dict[str, Any]:
    """The schemas of the source's payload indexes by field.

    Local mode does not tell its own; those of text-index slots are made from what the collection says of its slots.
    """
    schemas = {name: index.params or index.data_type for name, index in info.payload_schema.items()}
    if metadata is None or not is_local(source.client):
        return schemas
    for name, generation in metadata.live.slots.items():
        if generation.kind == "text_index" and generation.vector not in schemas:
            adapters = registry or Registry.default()
            if adapters.spec(generation.adapter, where=f"slot {name!r}").kind == "text_index":  # else it lies
                adapter: Any = adapters.create(generation.adapter, generation.options, where=f"slot {name!r}")
                schemas[generation.vector] = adapter.index_params()
    return schemas


def warnings_of(source: CopySide, info: models.CollectionInfo) -> list[str]:
    """What a copy does not include."""
    warnings = []
    if info.config.strict_mode_config is not None and info.config.strict_mode_config.enabled:
        warnings.append("strict mode is not copied: set it in the target with update_collection")
    if is_local(source.client):
        warnings.append("local mode does not report its payload indexes: the next populate creates those of its config")
    return warnings


def _diff(model: type[Any], config: Any) -> Any:
    """The part of a config that was set explicitly, None if nothing was."""
    values = {
        name: value
        for name, value in config.model_dump(exclude_none=True).items()
        if name in model.model_fields and value is not False and value not in _DEFAULTS.get(name, ())
    }
    return model(**values) if values else None


def _dense(params: models.CollectionParams, unused: Collection[str]) -> Any:
    """The dense vectors; the unnamed one by itself."""
    vectors: Any = params.vectors or {}
    if isinstance(vectors, models.VectorParams):
        return {} if "" in unused else vectors
    return {name: vector_params for name, vector_params in vectors.items() if name not in unused}


def _sparse(params: models.CollectionParams, unused: Collection[str]) -> dict[str, models.SparseVectorParams]:
    return {name: own for name, own in (params.sparse_vectors or {}).items() if name not in unused}


def _shape(params: models.VectorParams) -> str:
    parts = [str(params.size), params.distance.value]
    parts += ["multi-vector"] if params.multivector_config else []
    parts += [params.datatype.value] if params.datatype not in (None, models.Datatype.FLOAT32) else []
    return " ".join(parts)


class CopyRecord(Record):
    """The value of the metadata key `diptych_copy`.

    Args:
        store, collection: the source.
        stage: "points" while the source is gone through for the first time, "passes" while what changed meanwhile is
            copied, "done".
        offset: id of the first point that is not copied yet; None at the beginning.
        copied: how many points are.
        began, finished, by: when and by whom.
        digest: of the target's points when it was complete; None before.
        metadata: hash of the metadata that was copied.
    """

    format: int = 1
    store: str
    collection: str
    stage: Literal["points", "passes", "done"] = "points"
    offset: StoredId | None = None
    copied: int = 0
    began: str = ""
    finished: str = ""
    by: str = ""
    digest: str | None = None
    metadata: str = ""

    @property
    def source(self) -> str:
        """The source as errors name it."""
        return f"{self.store}, collection {self.collection!r}"

    def payload(self) -> dict[str, Any]:
        """The record in the form that the target stores."""
        return {COPY: self.model_dump(mode="json")}


def record_of(metadata: Mapping[str, Any], where: str) -> CopyRecord | None:
    """The record in a collection's metadata, None when it is not a copy.

    Raises:
        CopyError: it is damaged, or of a newer release.
    """
    if metadata.get(COPY) is None:
        return None
    try:
        return CopyRecord.model_validate(metadata[COPY])
    except ValidationError as error:
        first = error.errors()[0]
        raise CopyError(
            "the target's copy record cannot be read",
            where=f"{where}, metadata {COPY}.{'.'.join(map(str, first['loc']))}",
            got=repr(first["input"])[:80],
            expected=expectation(first),
            do="use the release of diptych that wrote it, or copy under another name: --as NAME",
        ) from error


def copied_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the source's metadata that a copy takes over.

    All but who swaps there, what the gate said of it, since when vectors are retired there, and whose copy the source
    itself is.
    """
    here = {key for key in metadata if key in (APPLY, COPY, GATE, RETIRED) or key.startswith(CLAIM)}
    return {key: value for key, value in metadata.items() if key not in here and value is not None}


def hash_of(metadata: Mapping[str, Any]) -> str:
    """A hash of that part."""
    return hashlib.sha256(json.dumps(copied_metadata(metadata), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """Counts of one run of `copy_collection`.

    Args:
        source, target: store and collection, as text without secrets.
        points: how many the source has.
        copied: written in this run's first going through the source.
        changed, deleted: points copied or deleted afterwards because the two sides differed.
        passes: comparisons of all points on both sides; the last one found no difference.
        resumed: whether a run before had begun this copy.
        indexes: payload fields that are indexed.
    """

    source: str
    target: str
    points: int = 0
    copied: int = 0
    changed: int = 0
    deleted: int = 0
    passes: int = 0
    resumed: bool = False
    indexes: tuple[str, ...] = ()
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def written(self) -> int:
        """Number of points that this run wrote or deleted in the target."""
        return self.copied + self.changed + self.deleted
