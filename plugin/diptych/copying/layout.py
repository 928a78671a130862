"""The target collection: created like the source, or compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from qdrant_client import models

from diptych.copying.side import Side
from diptych.errors import CopyError, StoreUnsupported
from diptych.registry import Registry
from diptych.stores.local import is_local

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


Params: TypeAlias = models.VectorParams | models.SparseVectorParams
Extra: TypeAlias = Mapping[str, Params | None]  # vectors that only the target has, empty; None leaves one out
NO_EXTRA: Extra = MappingProxyType({})


def create(
    source: Side, target: Side, info: models.CollectionInfo, metadata: dict[str, Any], extra: Extra = NO_EXTRA
) -> None:
    """Create the target with the source's vectors, HNSW, quantization, datatypes and storage, and `metadata`.

    Raises:
        StoreUnsupported: the source's shards are addressed by keys, which a copy would lose.
    """
    params = info.config.params
    if params.sharding_method == models.ShardingMethod.CUSTOM:
        what = "a collection with shard keys cannot be copied: its points would lose their keys"
        raise StoreUnsupported(what, where=source, do="use Qdrant's snapshots")
    given = {
        "hnsw_config": _diff(models.HnswConfigDiff, info.config.hnsw_config),
        "optimizers_config": _diff(models.OptimizersConfigDiff, info.config.optimizer_config),
        "quantization_config": info.config.quantization_config,
        "on_disk_payload": params.on_disk_payload,
        "payload": params.payload,
        "id_tracker": params.id_tracker,
    }
    make = partial(
        target.client.create_collection,
        target.name,
        vectors_config=_dense(params, extra),
        sparse_vectors_config=_sparse(params, extra) or None,
        metadata=metadata,
        **{name: value for name, value in given.items() if value is not None},
    )
    target.call("create a collection in", make)


def shapes(params: models.CollectionParams, extra: Extra = NO_EXTRA) -> dict[str, str]:
    """What decides whether a vector of one collection fits into another, by name and in words."""
    dense: Any = _dense(params, extra)
    named = {"": dense} if isinstance(dense, models.VectorParams) else dense
    found = {name: _shape(own) for name, own in named.items()}
    return found | {name: _sparse_shape(own) for name, own in _sparse(params, extra).items()}


def require_same(
    source: Side, target: Side, ours: models.CollectionInfo, theirs: models.CollectionInfo, extra: Extra = NO_EXTRA
) -> None:
    """Raise CopyError when the two sides' vectors cannot hold the same points."""
    wanted, have = shapes(ours.config.params, extra), shapes(theirs.config.params)
    if wanted == have:
        return
    names = [name for name in sorted({*wanted, *have}) if wanted.get(name) != have.get(name)]
    raise CopyError(
        "source and target have other vectors",
        where=target,
        got=", ".join(f"{name!r}: {have.get(name, 'none')}" for name in names),
        expected=", ".join(f"{name!r}: {wanted.get(name, 'none')}" for name in names),
        do="the source's encoders were swapped since, or the target's: copy under another name: --as NAME",
    )


def ensure_indexes(target: Side, wanted: Mapping[str, Any]) -> None:
    """Create the payload indexes that are missing in the target.

    Raises:
        CopyError: a field is indexed as another type there.
    """
    have = target.info().payload_schema
    for field, schema in wanted.items():
        if is_local(target.client) and not isinstance(schema, models.TextIndexParams):
            continue  # of no use there, and it warns
        if field not in have:
            target.call("write to", partial(target.client.create_payload_index, target.name, field, schema, wait=True))
        elif (found := have[field].data_type) != (kind := _kind(schema)):
            where = f"{target}, field {field!r}"
            do = "drop the index in the target and run it again"
            raise CopyError("a field is indexed as another type", where=where, got=found.value, expected=kind, do=do)


def indexes_of(
    source: Side, info: models.CollectionInfo, metadata: CollectionMetadata | None, registry: Registry | None
) -> dict[str, Any]:
    """The schemas of the source's payload indexes by field.

    Local mode does not tell its own; those of text-index slots are made from what the collection says of its slots.
    """
    found = {name: index.params or index.data_type for name, index in info.payload_schema.items()}
    if metadata is None or not is_local(source.client):
        return found
    for name, generation in metadata.live.slots.items():
        if generation.kind == "text_index" and generation.vector not in found:
            adapter: Any = (registry or Registry.default()).create(
                generation.adapter, generation.options, where=f"slot {name!r}"
            )
            found[generation.vector] = adapter.index_params()
    return found


def warnings_of(source: Side, info: models.CollectionInfo) -> list[str]:
    """What a copy does not include."""
    found = []
    if info.config.strict_mode_config is not None and info.config.strict_mode_config.enabled:
        found.append("strict mode is not copied: set it in the target with update_collection")
    if is_local(source.client):
        found.append("local mode does not tell its payload indexes: the next populate makes those of its config")
    return found


def _diff(model: type[Any], config: Any) -> Any:
    """The part of a config that was set explicitly, None if nothing was."""
    given = {
        name: value
        for name, value in config.model_dump(exclude_none=True).items()
        if name in model.model_fields and value is not False and value not in _DEFAULTS.get(name, ())
    }
    return model(**given) if given else None


def _dense(params: models.CollectionParams, extra: Extra) -> Any:
    """The dense vectors; the unnamed one by itself where it is alone."""
    more = {name: own for name, own in extra.items() if isinstance(own, models.VectorParams)}
    found: Any = params.vectors or {}
    if isinstance(found, models.VectorParams):
        alone = not more and "" not in extra
        return found if alone else {**({} if "" in extra else {"": found}), **more}
    return {**{name: own for name, own in found.items() if name not in extra}, **more}


def _sparse(params: models.CollectionParams, extra: Extra) -> dict[str, models.SparseVectorParams]:
    more = {name: own for name, own in extra.items() if isinstance(own, models.SparseVectorParams)}
    return {**{name: own for name, own in (params.sparse_vectors or {}).items() if name not in extra}, **more}


def _shape(params: models.VectorParams) -> str:
    parts = [str(params.size), params.distance.value]
    parts += ["multi-vector"] if params.multivector_config else []
    parts += [params.datatype.value] if params.datatype not in (None, models.Datatype.FLOAT32) else []
    return " ".join(parts)


def _sparse_shape(params: models.SparseVectorParams) -> str:
    return f"sparse {params.modifier.value}" if params.modifier not in (None, models.Modifier.NONE) else "sparse"


def _kind(schema: Any) -> models.PayloadSchemaType:
    return models.PayloadSchemaType(getattr(schema, "type", schema))
