"""`StorageTrial`: changes the storage of live vectors in place so that the gate can measure it, and restores it.

Qdrant has one index for each vector. New quantization and graph settings replace the ones that answer queries, so they
cannot be built beside them as new vectors are. The old settings are stored with the lease first: the next holder of the
lease restores them after a kill.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from qdrant_client import models

from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata, Generation, State
from diptych.slots.slot_factory import slot_config
from diptych.stores.versions import optimized
from diptych.swap.lease import Lease
from diptych.swap.records import Trial
from diptych.swap.vectors import configure_dense, set_sparse_on_disk, set_storage

PAUSE, FIRST_PAUSE = 1.0, 2.0  # seconds between two checks whether a server still builds an index, and before the first


def changed_storage(before: State, after: State) -> dict[str, tuple[Generation, Generation]]:
    """By slot, the generations whose vector both states use but store differently."""
    pairs = {name: (before.slots[name], generation) for name, generation in after.slots.items() if name in before.slots}
    return {name: (a, b) for name, (a, b) in pairs.items() if a.vector == b.vector and a.storage != b.storage}


class StorageTrial:
    """Changes the storage of vectors, and restores it.

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

    def _trials(self, then: Generation, now: Generation) -> Iterator[tuple[str, Trial]]:
        config = self._client.get_collection(self._name).config
        if then.kind == "sparse":
            index = (config.params.sparse_vectors or {})[then.vector].index
            on_disk = bool(index and index.on_disk)
            yield then.vector, Trial(wanted=now.storage, before={"on_disk": on_disk}, sparse=True)
            return
        named = config.params.vectors
        sections = [(then.storage, now.storage), *_first_stages(then, now)]
        for vector, pair in zip(then.vectors, sections, strict=True):
            params = named[vector] if isinstance(named, dict) else named
            assert params is not None, "a live vector is there"
            yield vector, Trial(wanted=now.storage, before=_way_back(params, config.hnsw_config, *pair))

    def _await_indexes(self) -> None:
        """Wait until the indexes match the settings: an embedded store builds them here, a server by itself."""
        if hasattr(self._client, "optimize"):
            optimized(self._client, self._name)
            return
        pause = FIRST_PAUSE
        while not self._stopped.wait(pause) and self._busy():
            pause = PAUSE

    def _busy(self) -> bool:
        return self._client.get_collection(self._name).status == models.CollectionStatus.YELLOW


def _first_stages(then: Generation, now: Generation) -> list[tuple[Any, Any]]:
    return [(then.storage["first_stage"], now.storage["first_stage"])] if then.first_stage else []


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
