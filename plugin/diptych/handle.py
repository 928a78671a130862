"""An open collection as populate and search see it: client, name, slots, metadata."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.config.models import Config, PopulateConfig, SearchConfig, SlotConfig, VectorStorage
from diptych.errors import AdapterOptionsError, CollectionError, CollectionNotFound
from diptych.metadata import CollectionMetadata, Generation, SlotRecord, metadata_payload, read_metadata
from diptych.params import vector_params
from diptych.protocols import Reranker, Statistics
from diptych.registry import Registry
from diptych.slots import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


class CollectionHandle:
    """A collection that is open, or about to be created by the first populate.

    Args:
        client: any Qdrant client: server, Edge or local.
        name: the collection's name.
        config: slots and pipeline; None takes the slots from the collection itself.
        registry: where adapters and hooks come from.
        verify: whether encoders must prove that they made the collection's vectors: a changed config at once, an
            unchanged one when its encoder is first needed.

    Raises:
        CollectionNotFound: there is neither a collection nor a config to make it from.
        CollectionError: diptych did not make the collection, or config and collection name different slots.
    """

    def __init__(
        self, client: QdrantBase, name: str, config: Config | None, registry: Registry, *, verify: bool = True
    ) -> None:
        self.client = client
        self.name = name
        self.registry = registry
        self.metadata = self._read(required=config is None)
        stored = self.metadata.search if self.metadata else None
        self.search_config = config.search if config else SearchConfig.model_validate(stored or {})
        self.populate_config = config.populate if config else PopulateConfig()
        self._require_same_input(config)
        configs = config.slots if config else _slots_of(self.metadata)
        self._require_same_slots(configs)
        self.slots = {n: Slot(n, c, self._generation(n), registry, verify=verify) for n, c in configs.items()}
        if config is not None and verify:
            self._refuse_changes()
        self.kept: dict[str, Any] = {}  # by the parts above, such as search: what they need not work out again
        self._rerankers: list[tuple[str, dict[str, Any], Reranker]] = []
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether the collection has been created."""
        return self.metadata is not None

    def slot(self, name: str) -> Slot:
        """The slot of this name.

        Raises:
            CollectionError: there is none.
        """
        if name not in self.slots:
            raise CollectionError(
                f"the collection has no slot {name!r}",
                where=f"collection {self.name!r}",
                expected=", ".join(self.slots),
            )
        return self.slots[name]

    def reranker(self, adapter: str, options: Mapping[str, Any]) -> Reranker:
        """The reranker, made at the first call and kept.

        Raises:
            RegistryError: it is unknown, is no reranker, or cannot be made.
        """
        wanted = dict(options)
        with self._lock:
            for name, known, reranker in self._rerankers:
                if name == adapter and known == wanted:
                    return reranker
            reranker = _reranker(self.registry, adapter, wanted)
            self._rerankers.append((adapter, wanted, reranker))
            return reranker

    def require(self) -> None:
        """Raise CollectionNotFound when nothing has been populated yet, by whatever process."""
        if not self.exists:
            self.metadata = self._read(required=True)
            for name, slot in self.slots.items():
                if (generation := self._generation(name)) is not None:
                    slot.found(generation)

    def document_input(self, title: str, text: str) -> str:
        """What the encoders read of a document: the configured parts, empty ones left out."""
        settings = self.metadata or self.populate_config
        parts = {"title": title, "text": text}
        return settings.separator.join(part for name in settings.input if (part := parts[name].strip()))

    def create(self, statistics: Mapping[str, Statistics]) -> None:
        """Create the collection with a named vector per slot, its metadata, and payload indexes.

        Args:
            statistics: per slot that needs it, the measure of the whole corpus.
        """
        records = {n: SlotRecord(live=s.describe(statistics.get(n))) for n, s in self.slots.items()}
        settings = self.populate_config
        metadata = CollectionMetadata(
            slots=records,
            input=list(settings.input),
            separator=settings.separator,
            search=self.search_config.model_dump(mode="json"),
        )
        dense, sparse = self._vectors()
        self.client.create_collection(
            self.name, vectors_config=dense, sparse_vectors_config=sparse, metadata=metadata_payload(metadata)
        )
        self.metadata = metadata
        for name, record in records.items():
            self.slots[name].generation = record.live
        self.ensure_indexes()

    def _vectors(self) -> tuple[dict[str, models.VectorParams], dict[str, models.SparseVectorParams]]:
        retrieved = self.search_config.retrieved(self.slots)
        dense: dict[str, models.VectorParams] = {}
        sparse: dict[str, models.SparseVectorParams] = {}
        for slot in self.slots.values():
            if slot.kind == "text_index":
                continue
            indexed = slot.kind != "multivector" or slot.name in retrieved
            params = vector_params(slot.encoder, slot.kind, slot.config.storage, indexed=indexed)
            spec = self.registry.spec(slot.config.adapter)
            params = self.registry.hook.diptych_vector_params(spec=spec, params=params) or params
            if isinstance(params, models.SparseVectorParams):
                sparse[slot.vector] = params
            else:
                dense[slot.vector] = params
        return dense, sparse

    def keep_pipeline(self) -> None:
        """Store the config's search pipeline in the collection, so that whoever opens it by name searches alike."""
        if self.metadata is None:
            return
        search = self.search_config.model_dump(mode="json")
        if self.metadata.search != search:
            self.metadata = self.metadata.model_copy(update={"search": search})
            # Every QdrantBase takes it; the base class only says **kwargs.
            self.client.update_collection(self.name, metadata=metadata_payload(self.metadata))

    def ensure_indexes(self) -> None:
        """Create the payload indexes that are missing: all of them at first, later those that a crash left out.

        Raises:
            CollectionError: a field is indexed as another type.
        """
        have = self.client.get_collection(self.name).payload_schema
        for field, schema in self.populate_config.indexes.items():
            if field not in have:
                self.client.create_payload_index(self.name, field, field_schema=models.PayloadSchemaType(schema))
            elif (found := have[field].data_type.value) != schema:
                where = f"collection {self.name!r}, populate.indexes.{field}"
                do = "restore it, or drop the index with the Qdrant client and populate again"
                raise CollectionError(
                    "a field is indexed as another type", where=where, got=schema, expected=found, do=do
                )
        for slot in self.slots.values():
            if slot.kind == "text_index" and slot.vector not in have:
                self.client.create_payload_index(self.name, slot.vector, field_schema=slot.encoder.index_params())

    def _read(self, *, required: bool) -> CollectionMetadata | None:
        if not required and not self.client.collection_exists(self.name):
            return None
        found = read_metadata(self.client, self.name)
        if found is None:
            raise CollectionError(
                "diptych did not make this collection",
                where=f"collection {self.name!r}",
                do="choose another name; taking over collections made by others is not there yet",
            )
        return found

    def _generation(self, name: str) -> Generation | None:
        record = self.metadata.slots.get(name) if self.metadata else None
        return record.live if record else None

    def _refuse_changes(self) -> None:
        """A changed encoder must prove that it makes the same vectors; changed storage would have no effect."""
        for slot in self.slots.values():
            if slot.changed:
                slot.verify()
            if slot.generation is not None:
                _require_same_storage(slot, slot.generation)

    def _require_same_input(self, config: Config | None) -> None:
        """What the encoders read of a document cannot change beneath vectors that were made from something else."""
        if config is None or self.metadata is None:
            return
        wanted, have = config.populate, self.metadata
        if (list(wanted.input), wanted.separator) != (have.input, have.separator):
            raise CollectionError(
                "config and collection differ in what the encoders read of a document",
                where=f"collection {self.name!r}, populate.input and populate.separator",
                got=f"{list(wanted.input)} joined by {wanted.separator!r}",
                expected=f"{have.input} joined by {have.separator!r}",
                do="restore them, or populate a new collection",
            )

    def _require_same_slots(self, configs: Mapping[str, SlotConfig]) -> None:
        have = set(self.metadata.slots) if self.metadata else set(configs)
        if have != set(configs):
            raise CollectionError(
                "config and collection name different slots",
                where=f"collection {self.name!r}",
                got=", ".join(sorted(configs)),
                expected=", ".join(sorted(have)),
                do="give the config the collection's slots, or another collection name",
            )


def _require_same_storage(slot: Slot, generation: Generation) -> None:
    wanted = slot.config.storage.model_dump(mode="json", exclude_none=True)
    if wanted != generation.storage:
        raise CollectionError(
            "config and collection differ in how vectors are stored",
            where=f"{slot.where}, storage",
            got=wanted or "Qdrant's defaults",
            expected=generation.storage or "Qdrant's defaults",
            do="restore it, or populate a new collection: the storage of an existing one is not changed yet",
        )


def _slots_of(metadata: CollectionMetadata | None) -> dict[str, SlotConfig]:
    if metadata is None:
        raise CollectionNotFound("there is no collection and no config to create it from")
    return {
        name: SlotConfig(adapter=live.adapter, options=live.options, storage=VectorStorage.model_validate(live.storage))
        for name, live in ((name, record.live) for name, record in metadata.slots.items())
    }


def _reranker(registry: Registry, adapter: str, options: Mapping[str, Any]) -> Reranker:
    kind = registry.spec(adapter, where="rerank").kind
    if kind != "reranker":
        raise AdapterOptionsError(f"adapter {adapter!r} cannot rerank", where="rerank", got=kind, expected="a reranker")
    return registry.create(adapter, options, where=f"reranker {adapter!r}")  # type: ignore[return-value]
