"""An open collection as populate, search and swap use it, with the view that is live now; see docs/architecture.md.

    no collection ──first populate──▶ view n ──first query──▶ view n, serving ◀──────────┐ encoders of n + 1
                                        │                         │ metadata shows       │ loaded and checked:
                     encoder did not    │                         ▼ a cut-over           │ n + 1 becomes n
                     make the vectors   ▼                     loading view n + 1 ────────┘
                          refused: FingerprintMismatch        (n still answers; if n + 1 fails: FollowWarning, retry)

A view is replaced as a whole, so a search that holds one never mixes two encoders. `close()` is always possible.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from diptych.config.models import CacheConfig, Config, PopulateConfig, SearchConfig, SlotConfig
from diptych.errors import CollectionError, CollectionNotFound, DiptychError, FollowWarning, StoreError
from diptych.handle import create as creation
from diptych.handle import open_handle
from diptych.handle.view import Rerankers, View, tenancy_of
from diptych.metadata.models import CollectionMetadata, Generation, QueryEncoder, State
from diptych.metadata.store import known_metadata, metadata_payload, read_existing, search_payload, update_metadata
from diptych.protocols import Statistics
from diptych.registry import Registry
from diptych.slots.cache import EmbeddingCache
from diptych.slots.consent import Consent
from diptych.slots.encode import CollectionTexts
from diptych.slots.slot import Slot, SlotMaker
from diptych.stores.nodes import search_deadline
from diptych.stores.server_errors import error_line, needs_answers

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase
    from qdrant_client.models import CollectionInfo, PayloadIndexInfo

REFRESH = 2.0  # seconds between two looks at the metadata while searches come


class CollectionHandle:
    """A collection that is open, or that the first populate will create.

    Args:
        client: any Qdrant client: server, Edge or local.
        name: the collection's name.
        config: slots and pipeline; None takes the slots from the collection itself.
        registry: where adapters and hooks come from.
        verify: whether encoders must prove that they made the collection's vectors: a changed config at once, an
            unchanged one when its encoder is first needed.
        as_stored: take slots and pipeline from the collection whatever the config says of them.

    Raises:
        CollectionNotFound: there is neither a collection nor a config to make it from.
        CollectionError: diptych does not know the collection, or the config asks for a change.
    """

    def __init__(
        self,
        client: QdrantBase,
        name: str,
        config: Config | None,
        registry: Registry,
        *,
        verify: bool = True,
        as_stored: bool = False,
    ) -> None:
        self.consent = Consent(client, name, registry, config)
        registry = registry.guarded(self.consent.require)
        self.client, self.name, self.registry = client, name, registry
        self.config = None if as_stored else config
        self.populate_config = config.populate if config else PopulateConfig()
        self.cache_config = config.cache if config else CacheConfig()
        self.cache = EmbeddingCache.open(self.cache_config)
        self.media, self._rerankers = open_handle.media_of(config), Rerankers(registry)
        self._verify, self.texts = verify, CollectionTexts(client, name)
        self._maker = SlotMaker(registry, self.cache, self.texts, self.media, verify=verify)
        self._lock, self._looking = threading.RLock(), threading.Lock()
        self._writers: dict[str, Slot] = {}
        self._written_as: CollectionMetadata | None = None  # of which `_writers` are; None after one was added by hand
        self._due = time.monotonic() + REFRESH
        metadata = None
        try:
            self.consent.agree(metadata := self.read())
        except CollectionNotFound:  # by its config the first populate creates it
            if self.config is None:
                raise
        self.view = self._opened(metadata)

    def close(self) -> None:
        """Close the embedding cache. The client belongs to whoever opened the handle."""
        if self.cache is not None:
            self.cache.close()

    @property
    def exists(self) -> bool:
        """Whether the collection has been created."""
        return self.view.metadata is not None

    @property
    def metadata(self) -> CollectionMetadata | None:
        """The collection's metadata as of the last look; None before the first populate."""
        return self.view.metadata

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The live slots."""
        return self.view.slots

    @property
    def search_config(self) -> SearchConfig:
        """The live pipeline."""
        return self.view.search_config

    def slot(self, name: str) -> Slot:
        """The slot of this name; raises CollectionError if there is none."""
        return self.view.slot(name)

    def require(self) -> None:
        """Raise CollectionNotFound when no process has populated the collection yet; reads as `catch_up` does."""
        if not self.exists:
            with self._lock:
                stored = self._read_in_time().config.metadata or {}
                self.view = self._opened(known_metadata(self.client, self.name, stored))

    def now(self) -> View:
        """The view to search with; notices cut-overs by other processes.

        At most every two seconds a thread reads the metadata. After a cut-over it loads the new encoders in the
        background, while the old ones go on answering.

        Raises:
            CollectionNotFound: nothing has been populated yet.
        """
        if self.view.metadata is None:
            self.require()
        # The lock is not waited for: while one search looks, the others go on with the view they have.
        if time.monotonic() >= self._due and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, name=f"follow-{self.name}", daemon=True).start()
        return self.view

    def catch_up(self, read: Callable[[], CollectionInfo] | None = None) -> CollectionInfo:
        """Read the collection now, load new encoders at once, and return what the store says of it.

        `read` reads it, such as `info`; unless given, it is read within the deadline of a search.

        Raises:
            DiptychError: the new encoders cannot be loaded, or did not make the vectors.
            StoreUnavailable: the store does not answer within `search_timeout`.
        """
        with self._lock:
            info = (read or self._read_in_time)()
            self.install(known_metadata(self.client, self.name, info.config.metadata or {}))
            return info

    def install(self, metadata: CollectionMetadata, *, load: bool = True) -> None:
        """Make a view of `metadata` the current one, after loading and verifying the encoders of new slots.

        Where none was loaded before, or without `load`, each encoder waits for its first use.
        """
        with self._lock:
            known = self.view.metadata
            if known is not None and known.live == metadata.live:
                self.view = self._renewed(metadata)
                return
            view = self.at(metadata.live, metadata)
            # Before the exchange: searches keep the old view until every new encoder is loaded and verified.
            if load and any(slot.loaded for slot in self.view.slots.values()):
                for slot in view.slots.values():
                    slot.load()
            if known is not None and known.search == metadata.search and view.slots.keys() == self.view.slots.keys():
                view = replace(view, search_config=self.view.search_config)
            self.view = view

    def _renewed(self, metadata: CollectionMetadata) -> View:
        """The view with newer metadata of the same slots; its search settings follow only if they have changed."""
        if metadata == self.view.metadata:
            return self.view
        same = self.view.metadata is None or self.view.metadata.search == metadata.search
        search = self.view.search_config if same else open_handle.stored_search(metadata)
        return replace(self.view, metadata=metadata, tenancy=metadata.tenancy, search_config=search)

    def at(self, state: State, metadata: CollectionMetadata | None = None, search: SearchConfig | None = None) -> View:
        """A view of the collection with `state` live, whether it was, is or will be. Loaded encoders are used again."""
        metadata = metadata or self.view.metadata
        assert metadata is not None, "a state belongs to a collection that exists"
        slots = {name: self._slot(name, generation, state.asking.get(name)) for name, generation in state.slots.items()}
        reading = next(iter(state.slots.values())).reading.as_text() if state.slots else metadata.reading
        pipeline = search or open_handle.stored_search(metadata)
        shared = (self._rerankers, metadata.tenancy, self.media)
        return View(self.client, self.name, self.registry, metadata, slots, pipeline, reading, *shared)

    def candidate(self, name: str, config: SlotConfig, *, student: bool = False) -> Slot:
        """The slot of a config, or its student, to compare with the collection; see `SlotMaker.candidate`."""
        return self._maker.candidate(name, config, student=student)

    def keep_candidates(self) -> None:
        """Compare configs by the same encoders from now on, as a command does that plans, applies and ends."""
        self._maker.keeps_candidates = True

    def share_encoder(self, slot: Slot) -> None:
        """Use this slot, with its loaded encoder, wherever its generation is needed."""
        with self._lock:
            slot.use_cache(self.cache)
            self._writers[slot.vector], self._written_as = slot, None

    def building(self, name: str, generation: Generation) -> Slot:
        """The slot of a generation that a swap is filling."""
        with self._lock:
            self._writers[generation.vector], self._written_as = self._slot(name, generation, None), None
            return self._writers[generation.vector]

    def writers(self, metadata: CollectionMetadata) -> dict[str, Slot]:
        """The slots that a document must be encoded for according to `metadata`, by physical vector."""
        live, asking = metadata.live.slots, metadata.live.asking
        with self._lock:
            if self.view.metadata is not None and self.view.metadata.live == metadata.live:
                self.view = self._renewed(metadata)
            if metadata != self._written_as:
                self._writers = {
                    vector: self._slot(name, generation, asking.get(name) if live.get(name) == generation else None)
                    for vector, (name, generation) in metadata.written().items()
                }
                self._written_as = metadata
            return dict(self._writers)

    def create(self, statistics: Mapping[str, Statistics]) -> None:
        """Create the collection with metadata and payload indexes."""
        slots, search = self.slots, self.search_config
        metadata = creation.first_metadata(slots, statistics, self.view.reading, search, self.view.tenancy)
        dense, sparse = creation.vectors_of(slots, self.registry, search.retrieved(slots))
        self.client.create_collection(
            self.name, vectors_config=dense, sparse_vectors_config=sparse, metadata=metadata_payload(metadata)
        )
        for name, generation in metadata.live.slots.items():
            slots[name].generation = generation
        self.view = replace(self.view, metadata=metadata)
        self.ensure_indexes()

    def ensure_indexes(self, have: Mapping[str, PayloadIndexInfo] | None = None) -> None:
        """Create the payload indexes that are missing; `have` are those that there are, read now unless given.

        Raises:
            CollectionError: a field is indexed as another type.
        """
        if self.populate_config.indexes or self.view.tenancy is not None or self.view.copies:
            have = self.client.get_collection(self.name).payload_schema if have is None else have
            creation.ensure_indexes(self.view, self.populate_config, have)

    def keep_pipeline(self, new: SearchConfig | None = None) -> None:
        """Store search settings: a new collection's, or the config's in one without any; others change by `apply`."""
        known = self.view.metadata
        if known is None or (new is None and known.search is not None):
            return
        search, now = new or self.search_config, self.read()
        if now.swap is None and now.live == known.live:  # else the pipeline is for slots that are about to go
            stored = search.model_dump(mode="json")
            update_metadata(self.client, self.name, search_payload(stored))
            self.view = replace(self.view, metadata=now.model_copy(update={"search": stored}), search_config=search)

    def read(self) -> CollectionMetadata:
        """Read the collection's metadata now.

        Raises:
            CollectionNotFound, CollectionError: it is gone, or diptych does not know it.
        """
        return known_metadata(self.client, self.name)

    def info(self) -> CollectionInfo:
        """Read all that the store says of the collection; raises CollectionNotFound if it is gone."""
        return read_existing(self.client, self.name, self.client.get_collection)

    @needs_answers("try again once it does")
    def _read_in_time(self) -> CollectionInfo:
        """Read within the deadline of a search; raises StoreUnavailable after it."""
        with search_deadline(self.client):
            return self.info()

    def _opened(self, metadata: CollectionMetadata | None) -> View:
        try:
            slots, search = open_handle.opened_slots(self.config, metadata, self._maker, verify=self._verify)
        except CollectionError as error:
            error.add_note(f"collection {self.name!r}")
            raise
        reading = metadata.reading if metadata else open_handle.reading_of(self.populate_config)
        tenants = metadata.tenancy if metadata else tenancy_of(self.config)
        shared = (self._rerankers, tenants, self.media)
        return View(self.client, self.name, self.registry, metadata, slots, search, reading, *shared)

    def _look(self) -> None:
        """Follow a cut-over; after a failure the view stays as it is, and the next look tries again."""
        try:
            self._tried(self._look_now)
        finally:
            self._due = time.monotonic() + REFRESH
            self._looking.release()

    def _look_now(self) -> None:
        try:
            metadata = self.read()
        except Exception as error:
            if isinstance(error, DiptychError) and not isinstance(error, CollectionNotFound | StoreError):
                raise
            return None  # collection or store are gone, or do not answer, and the search says so better
        if self.metadata is not None and metadata.live == self.metadata.live:
            return self.install(metadata)
        # No daemon, as the thread that looks is: one that loads a model while Python ends makes it abort.
        args = (partial(self.install, metadata),)
        loading = threading.Thread(target=self._tried, args=args, name=f"load-{self.name}", daemon=False)
        loading.start()
        return loading.join()

    def _tried(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            what = error if isinstance(error, DiptychError) else error_line(error)
            warnings.warn(f"collection {self.name!r} cannot be followed: {what}", FollowWarning, stacklevel=1)

    def _slot(self, name: str, generation: Generation, asking: QueryEncoder | None) -> Slot:
        """The slot of a generation; an existing slot of the same generation is used again, with its encoder."""
        return self._maker.stored(name, generation, asking, (*self.view.slots.values(), *self._writers.values()))
