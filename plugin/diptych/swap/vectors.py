"""Physical vectors of a live collection: creates, changes and empties them.

Qdrant before 1.18 cannot add a vector to a collection. There `provide` makes a second collection, a copy of the served
one with empty new vectors beside the old, and moves the alias of the served one to it: same encoders, same vectors, so
queries notice nothing. Then the swap continues there as on any server: populates write both vectors, and back-fill,
gate and cut-over see one collection with all they need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.config.storage import Stored, VectorStorage
from diptych.copying import copy_collection
from diptych.copying.run import Base, copy_late_writes
from diptych.copying.side import CopySide
from diptych.copying.target_collection import Extra, Params, record_of, shapes
from diptych.errors import StoreUnsupported
from diptych.handle.create import changeable, named_params
from diptych.metadata.models import Generation, State
from diptych.metadata.store import APPLY, COPY, await_metadata
from diptych.protocols import Kind
from diptych.registry import Registry
from diptych.runtime.phases import Progress
from diptych.slots.slot import Slot, slot_config
from diptych.stores.retired_vectors import existing
from diptych.stores.scroll import pages
from diptych.stores.server_errors import too_old

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.handle.collection_handle import CollectionHandle

BATCH = 256

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
    """Add the empty vectors of the slot's generation, whose names are free.

    Raises:
        CannotAddVectors: the server is too old for it.
    """
    if slot.kind == "text_index":
        client.create_payload_index(name, slot.vector, field_schema=slot.encoder.index_params())
    there = existing(client, name)
    for vector, params in named_params(slot, registry, retrieved).items():
        # In a second collection (`provide`) they are there already.
        if vector not in there or not fits(client, name, vector, params):
            _add(client, name, vector, params)
            configure(client, name, vector, params)


def _add(client: QdrantBase, name: str, vector: str, params: models.VectorParams | models.SparseVectorParams) -> None:
    try:
        client.create_vector_name(name, vector, _named(params))
    except Exception as error:
        if not too_old(error):
            raise
        raise CannotAddVectors("this server cannot add a vector to a collection", where=f"{name!r}") from error


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


def empty(client: QdrantBase, name: str, vectors: Iterable[str]) -> None:
    """Delete from all points the vectors whose names could not be dropped."""
    if names := list(vectors):
        client.delete_vectors(name, names, points=models.Filter())


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


class CannotAddVectors(StoreUnsupported):
    """The server is too old to add a vector to a collection."""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """The result: the alias, the collections before and after the move, and the number of late writes."""

    alias: str
    before: str
    after: str
    late: int

    def __str__(self) -> str:
        return (
            f"this server cannot add a vector to a collection: {self.alias!r} serves {self.after!r} now, a copy of "
            f"{self.before!r}, which is kept; delete it with the Qdrant client once you no longer need it"
        )


def provide(
    client: QdrantBase, alias: str, extra: Extra, *, rate: float | None = None, progress: Progress
) -> AliasMove:
    """Move the alias to a copy of its collection with the vectors of `extra`; entries that are None are left out of it.

    After a kill, call it again to continue. What is written to the old collection until the alias moves is copied;
    what is written to the new one after that stays.

    Raises:
        CannotAddVectors: the name is a collection, not an alias.
        CopyError: the copy cannot be made.
    """
    before = _served(client, alias)
    after = _name(client, alias, before, extra)
    with Base() as base:
        copy_collection(
            client, before, client, after, batch=BATCH, rate=rate, progress=progress, extra=extra, base=base
        )
        source, target = CopySide(client, before), CopySide(client, after)
        target.settle({APPLY: source.metadata().get(APPLY)})  # the apply goes on in the copy, under the same lease
        gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        made = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=after, alias_name=alias))
        client.update_collection_aliases([gone, made])  # in one call
        # Nodes of a cluster take the moved alias at different times; late writes are compared only when all have it.
        await_metadata(client, alias, {COPY: target.metadata()[COPY]})
        late = copy_late_writes(source, target, base, batch=BATCH)
    source.note({APPLY: None})
    return AliasMove(alias, before, after, late)


def fits(client: QdrantBase, name: str, vector: str, params: Params) -> bool:
    """Whether the collection already has this very vector."""
    have = shapes(client.get_collection(name).config.params)
    return have.get(vector) == shapes(models.CollectionParams(), {vector: params})[vector]


def _served(client: QdrantBase, alias: str) -> str:
    """The collection behind the alias."""
    for known in client.get_aliases().aliases:
        if known.alias_name == alias:
            return known.collection_name
    raise CannotAddVectors(
        "this server cannot add a vector to a collection in use, and the collection is not served by an alias",
        where=f"collection {alias!r}",
        got="a Qdrant server before 1.18",
        expected="a newer server; or an alias, which can be moved to a second collection that has the vector",
        do=f"update the server; or once: diptych copy CONFIG CONFIG --collection {alias} --as {alias}.1, make an alias "
        f"for {alias}.1 with update_collection_aliases, and name that alias as `collection` in the config, and in all "
        f"programs that use {alias}",
    )


def _name(client: QdrantBase, alias: str, before: str, extra: Extra) -> str:
    """The second collection's name: that of an earlier run's copy, else the next free number."""
    names = [collection.name for collection in client.get_collections().collections]
    expected = shapes(client.get_collection(before).config.params, extra)
    numbers = {name: int(n[1]) for name in names if (n := re.fullmatch(rf"{re.escape(alias)}\.(\d+)", name))}
    for name in sorted(numbers, key=numbers.__getitem__, reverse=True):
        config = client.get_collection(name).config
        record = record_of(config.metadata or {}, name) if name != before else None
        is_copy = record is not None and (record.store, record.collection) == (CopySide(client, before).place, before)
        if is_copy and shapes(config.params) == expected:
            return name
    return f"{alias}.{max(numbers.values(), default=1) + 1}"
