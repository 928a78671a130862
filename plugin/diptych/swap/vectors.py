"""Physical vectors of a live collection: creates them and changes their storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.config.storage import Stored, VectorStorage
from diptych.handle.create import changeable, named_params
from diptych.metadata.models import Generation, State
from diptych.protocols import Kind
from diptych.registry import Registry
from diptych.slots.slot import Slot, slot_config
from diptych.stores.retired_vectors import existing
from diptych.stores.scroll import pages

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.handle.collection_handle import CollectionHandle

PAGE = 1000  # points read at once


def taken(client: QdrantBase, name: str, vector: str, kind: Kind) -> bool:
    """Whether the collection has a vector of this name or, for a text index, points with this payload key.

    The points are read one after another, because there are servers that refuse filters on keys without an index.
    """
    if kind != "text_index":
        return vector in existing(client, name)
    if vector in client.get_collection(name).payload_schema:  # the cheap check; else every point is read once
        return True
    read = pages(client, name, PAGE, payload=[vector])
    return any(vector in (record.payload or {}) for records, _ in read for record in records)


def create(client: QdrantBase, name: str, slot: Slot, registry: Registry, retrieved: Iterable[str]) -> None:
    """Add the empty vectors of the slot's generation, whose names are free."""
    if slot.kind == "text_index":
        client.create_payload_index(name, slot.vector, field_schema=slot.encoder.index_params())
    for vector, params in named_params(slot, registry, retrieved).items():
        client.create_vector_name(name, vector, _named(params))
        configure(client, name, vector, params)


def configure(
    client: QdrantBase, name: str, vector: str, params: models.VectorParams | models.SparseVectorParams
) -> None:
    """Change the settings of a live vector that can be changed: graph, quantization, place."""
    if isinstance(params, models.SparseVectorParams):
        return set_sparse_on_disk(client, name, vector, params.index.on_disk if params.index else None)
    diff = models.VectorParamsDiff(
        hnsw_config=params.hnsw_config, quantization_config=params.quantization_config, on_disk=params.on_disk
    )
    return configure_dense(client, name, vector, diff)


def set_storage(client: QdrantBase, name: str, storage: VectorStorage, generation: Generation) -> None:
    """Change the storage of a generation's vector to `storage`; missing settings get Qdrant's defaults.

    It takes no encoder, so that a rollback can be done where there is none.
    """
    first, then = generation.first_stage, generation.storage
    if generation.kind == "sparse":
        return set_sparse_on_disk(client, name, generation.vector, _on_disk(storage, then))
    defaults = client.get_collection(name).config.hnsw_config
    configure_dense(client, name, generation.vector, _difference(storage, then, defaults))
    if first is not None and storage.first_stage is not None:
        configure_dense(client, name, first.vector, _difference(storage.first_stage, then["first_stage"], defaults))
    return None


def _on_disk(section: Stored, then: Mapping[str, Any]) -> bool | None:
    return False if section.on_disk is None and then.get("on_disk") else section.on_disk


def _difference(section: Stored, then: Mapping[str, Any], defaults: models.HnswConfig) -> models.VectorParamsDiff:
    """The update that changes a vector from the storage section `then` to `section`."""
    diff = changeable(section).model_copy(update={"on_disk": _on_disk(section, then)})
    if section.quantization is None and then.get("quantization"):
        diff.quantization_config = models.Disabled.DISABLED
    changed = diff.hnsw_config.model_dump(exclude_none=True) if diff.hnsw_config else {}
    unset = {key: getattr(defaults, key, None) for key in then.get("hnsw") or {} if key not in changed}
    if unset:  # Qdrant cannot unset one of them, so it gets the collection's value
        diff.hnsw_config = models.HnswConfigDiff(**{**unset, **changed})
    return diff


def set_sparse_on_disk(client: QdrantBase, name: str, vector: str, on_disk: bool | None) -> None:
    """Set whether a sparse vector's index is on disk; None changes nothing."""
    if on_disk is not None:
        params = models.SparseVectorParams(index=models.SparseIndexParams(on_disk=on_disk))
        client.update_collection(name, sparse_vectors_config={vector: params})


def configure_dense(client: QdrantBase, name: str, vector: str, diff: models.VectorParamsDiff) -> None:
    """Change the settings in `diff` of a dense vector or multi-vector."""
    if diff.model_dump(exclude_none=True):
        client.update_collection(name, vectors_config={vector: diff})


def set_shared_storage(handle: CollectionHandle, before: State, after: State) -> None:
    """Change vectors that both states use from the storage of `before` to that of `after`."""
    for then, now in changed_storage(before, after).values():
        set_storage(handle.client, handle.name, slot_config(now).storage, then)


def changed_storage(before: State, after: State) -> dict[str, tuple[Generation, Generation]]:
    """By slot, the generations whose vector both states use but store differently."""
    pairs = {name: (before.slots[name], generation) for name, generation in after.slots.items() if name in before.slots}
    return {name: (a, b) for name, (a, b) in pairs.items() if a.vector == b.vector and a.storage != b.storage}


def _named(params: models.VectorParams | models.SparseVectorParams) -> Any:
    if isinstance(params, models.SparseVectorParams):
        datatype = params.index.datatype if params.index else None
        sparse = models.SparseVectorConfig(
            modifier=params.modifier, datatype=models.VectorStorageDatatype(datatype.value) if datatype else None
        )
        return models.SparseVectorNameConfig(sparse=sparse)
    dense = models.DenseVectorConfig(
        size=params.size,
        distance=params.distance,
        multivector_config=params.multivector_config,
        datatype=models.VectorStorageDatatype(params.datatype.value) if params.datatype else None,
    )
    return models.DenseVectorNameConfig(dense=dense)
