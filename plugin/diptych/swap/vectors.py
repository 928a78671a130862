"""Physical vectors of a live collection: creates them, counts points without one, changes storage (`StorageTrial`)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.config.storage import Stored, VectorStorage
from diptych.handle.create import changeable, named_params
from diptych.metadata.models import CollectionMetadata, Generation, State
from diptych.populate.store import lacking
from diptych.protocols import Kind
from diptych.registry import Registry
from diptych.slots.slot import Slot, slot_config
from diptych.stores.retired_vectors import existing
from diptych.stores.scroll import pages
from diptych.stores.versions import optimized
from diptych.swap.lease import Lease, TriedStorage

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.handle.collection_handle import CollectionHandle

PAGE = 1000  # points read at once
PAUSE, FIRST_PAUSE = 1.0, 2.0  # seconds between two checks whether a server still builds an index, and before the first


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
        config: models.SparseVectorNameConfig | models.DenseVectorNameConfig
        if isinstance(params, models.SparseVectorParams):
            datatype = params.index.datatype if params.index else None
            sparse = models.SparseVectorConfig(
                modifier=params.modifier, datatype=models.VectorStorageDatatype(datatype.value) if datatype else None
            )
            config = models.SparseVectorNameConfig(sparse=sparse)
        else:
            dense = models.DenseVectorConfig(
                size=params.size,
                distance=params.distance,
                multivector_config=params.multivector_config,
                datatype=models.VectorStorageDatatype(params.datatype.value) if params.datatype else None,
            )
            config = models.DenseVectorNameConfig(dense=dense)
        client.create_vector_name(name, vector, config)
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


class StorageTrial:
    """Changes the storage of live vectors in place so that the gate can measure it, and restores it.

    Qdrant has one index for each vector. New quantization and graph settings replace the ones that answer queries, so
    they cannot be built beside them as new vectors are. The old settings are stored with the lease first: the next
    holder of the lease restores them after a kill.

    Args:
        handle: the open collection.
        lease: of the apply; it keeps what is needed to put everything back.
        stopped: ends the wait for a server's indexes.
    """

    def __init__(self, handle: CollectionHandle, lease: Lease, stopped: threading.Event) -> None:
        self._client, self._name = handle.client, handle.name
        self._lease, self._stopped = lease, stopped

    def begin(self, before: State, after: State) -> None:
        """Store the vectors that both states use as `after` says, and wait until the indexes are built."""
        changed = changed_storage(before, after)
        # Recorded first: after a kill the record restores what was changed, and restoring what was not does no harm.
        self._lease.trying({vector: trial for pair in changed.values() for vector, trial in self._trials(*pair)})
        for then, now in changed.values():
            set_storage(self._client, self._name, slot_config(now).storage, then)
        self._await_indexes()

    def put_back(self) -> None:
        """Store the vectors as they were before the trial."""
        for vector, trial in self._lease.trials.items():
            if trial.sparse:
                set_sparse_on_disk(self._client, self._name, vector, trial.before["on_disk"])
            else:
                configure_dense(self._client, self._name, vector, models.VectorParamsDiff.model_validate(trial.before))
        self._await_indexes()
        self._lease.trying({})  # only now: a kill before this restores once more

    def put_back_after_a_kill(self, metadata: CollectionMetadata) -> None:
        """Restore what a killed apply left on trial; does nothing if its change became live."""
        if not self._lease.trials:
            return
        live = {
            vector: generation.storage for generation in metadata.live.slots.values() for vector in generation.vectors
        }
        if all(live.get(vector) == trial.wanted for vector, trial in self._lease.trials.items()):
            self._lease.trying({})
        else:
            self.put_back()

    def _trials(self, then: Generation, now: Generation) -> Iterator[tuple[str, TriedStorage]]:
        config = self._client.get_collection(self._name).config
        if then.kind == "sparse":
            index = (config.params.sparse_vectors or {})[then.vector].index
            on_disk = bool(index and index.on_disk)
            yield then.vector, TriedStorage(wanted=now.storage, before={"on_disk": on_disk}, sparse=True)
            return
        named = config.params.vectors
        sections = [(then.storage, now.storage)]
        if then.first_stage:
            sections.append((then.storage["first_stage"], now.storage["first_stage"]))
        for vector, pair in zip(then.vectors, sections, strict=True):
            params = named[vector] if isinstance(named, dict) else named
            assert params is not None, "a live vector is there"
            yield vector, TriedStorage(wanted=now.storage, before=_way_back(params, config.hnsw_config, *pair))

    def _await_indexes(self) -> None:
        """Wait until the indexes match the settings: an embedded store builds them here, a server by itself."""
        if hasattr(self._client, "optimize"):
            optimized(self._client, self._name)
            return
        pause = FIRST_PAUSE
        yellow = models.CollectionStatus.YELLOW
        while not self._stopped.wait(pause) and self._client.get_collection(self._name).status == yellow:
            pause = PAUSE


def _way_back(
    params: models.VectorParams, defaults: models.HnswConfig, then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """The update that restores a vector's parameters wherever two storage sections differ.

    A missing setting is sent with its default value, since Qdrant merges an update into the existing settings.
    """
    diff = models.VectorParamsDiff()
    if then.get("hnsw") != now.get("hnsw"):
        configured = params.hnsw_config.model_dump(exclude_none=True) if params.hnsw_config else {}
        known = {**defaults.model_dump(exclude_none=True), **configured}
        fields = models.HnswConfigDiff.model_fields
        diff.hnsw_config = models.HnswConfigDiff(**{name: value for name, value in known.items() if name in fields})
    if then.get("quantization") != now.get("quantization"):
        diff.quantization_config = params.quantization_config or models.Disabled.DISABLED
    if then.get("on_disk") != now.get("on_disk"):
        diff.on_disk = bool(params.on_disk)
    changed: dict[str, Any] = diff.model_dump(mode="json", exclude_none=True)
    return changed


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of `points` points, `missing` have no `vector`; of a text index, no text under that key."""

    vector: str
    points: int
    missing: int


def coverage(client: QdrantBase, name: str, generation: Generation) -> Coverage:
    """How many points of collection `name` lack the vector of `generation`, counted exactly."""
    missing = client.count(name, count_filter=lacking(generation), exact=True).count
    return Coverage(generation.vector, client.count(name, exact=True).count, missing)
