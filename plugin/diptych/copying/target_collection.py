"""The target collection: created like the source, or compared with it; and the record of the copy in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from qdrant_client import models

from diptych.copying.side import CopySide
from diptych.errors import CopyError, StoreUnsupported
from diptych.metadata.models import Record
from diptych.metadata.store import APPLY, CLAIM, COPY, GATE, RETIRED, StoredId
from diptych.registry import Registry
from diptych.runtime.validation_messages import expectation
from diptych.stores.versions import is_local

if TYPE_CHECKING:
    from diptych.metadata.models import CollectionMetadata

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
        elif (actual := existing[field].data_type) != (kind := _kind(schema)):
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


def _kind(schema: Any) -> models.PayloadSchemaType:
    return models.PayloadSchemaType(getattr(schema, "type", schema))


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
