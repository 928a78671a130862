"""`Collection`: open, populate, search. The class most programs use.

Methods that searching does not need import their code when called: swaps, adoption and populate together take as long
to import as everything else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.collection.populate_methods import CollectionPopulate
from diptych.collection.queries import Searching
from diptych.config import Config
from diptych.errors import TenantError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import client_of, config_at, config_of, name_of
from diptych.handle.view import require_same, scope_of
from diptych.metadata.payloads import Layout
from diptych.metadata.store import stored_unread
from diptych.registry import Registry
from diptych.reports import CollectionInfo, SlotInfo
from diptych.slots.consent import trusting
from diptych.slots.encode import SAMPLE
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import version_warnings

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.populate import Progress
    from diptych.swap import ApplyOptions, ApplyReport, Plan, Status, StepBack


@contextmanager
def _closed_if(owned: bool, client: QdrantBase) -> Iterator[None]:
    """Close a client of our own where the block fails."""
    try:
        yield
    except BaseException:
        if owned:
            client.close()
        raise


class Collection(CollectionPopulate, Searching):
    """An open collection. A context manager: leaving it closes the store when `open` opened it.

    Args:
        handle: the open collection; `Collection.open` makes one.
        owns_client: whether `close` closes the client, too.
    """

    def __init__(self, handle: CollectionHandle, *, owns_client: bool = False) -> None:
        self.handle = handle
        self._owns_client = owns_client

    @classmethod
    @needs_answers("open it again once it does")
    def open(
        cls,
        source: str | Path | Mapping[str, Any] | Config | Sequence[str] | QdrantBase,
        name: str | None = None,
        *,
        api_key: str | None = None,
        registry: Registry | None = None,
        verify: bool = True,
        create: bool = True,
        trust: bool = False,
    ) -> Collection:
        """Open by a config, or by store and name: a collection knows its encoders.

        Args:
            source: a config, be it the path of its file, a mapping that says the same or a `Config`; a store URL such
                as `edge:./qdrant`, or a list of those of a cluster's nodes; or a Qdrant client.
            name: of the collection; with a config, instead of the one it names.
            api_key: of the server behind a store URL, never shown; a config names its own.
            registry: where adapters come from; everything installed unless given.
            verify: whether each encoder must prove, before it serves, that it made the collection's vectors.
            create: whether the folder of an embedded store is made when it is not there; reading needs none.
            trust: agree to what the settings stored in the collection ask for: to send keys and texts to an address,
                to read the environment, to run a model's code. This machine remembers it for exactly these settings.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.errors.
        """
        registry = registry or Registry.default()
        config = config_of(source, registry)
        collection_name = name_of(name, config)
        client, owned = client_of(source, config, registry, create, api_key)
        with _closed_if(owned, client), trusting(trust):
            handle = CollectionHandle(client, collection_name, config, registry, verify=verify)
        return cls(handle, owns_client=owned)

    @classmethod
    @needs_answers("open it again once it does")
    def stored(
        cls, source: str | Path | Config | QdrantBase, name: str | None = None, *, registry: Registry | None = None
    ) -> Collection:
        """Open a collection with the encoders it has, whatever the config says, to plan and apply the difference.

        Args:
            source, name, registry: as in `open`.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.errors; CollectionNotFound when nothing was populated.
        """
        registry = registry or Registry.default()
        config = config_of(source, registry)
        client, owned = client_of(source, config, registry, False)
        with _closed_if(owned, client):
            handle = CollectionHandle(client, name_of(name, config), config, registry, as_stored=True)
        return cls(handle, owns_client=owned)

    @classmethod
    def adopt(
        cls,
        config: str | Path | Config,
        name: str | None = None,
        *,
        store: str | QdrantBase | None = None,
        vectors: Mapping[str, str] | None = None,
        layout: Layout | None = None,
        sample: int = SAMPLE,
        registry: Registry | None = None,
        media: Mapping[str, str] | None = None,
    ) -> Collection:
        """Adopt a collection that another framework or program filled, and open it. See `diptych.adopt.adopt`.

        Args:
            config: names the encoders that filled the collection.
            name: of the collection, instead of the one that the config names.
            store: a store's URL or a client, instead of the store that the config names.
            vectors, layout, sample, registry, media: as in `diptych.adopt.adopt`.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.errors; FingerprintMismatch for a wrong encoder.
        """
        from diptych.adopt import adopt

        registry = registry or Registry.default()
        loaded = config_at(config, registry)
        chosen = name or loaded.collection
        client, owned = client_of(store, None if store is not None else loaded, registry, False)
        with _closed_if(owned, client):
            adopt(client, chosen, loaded, vectors=vectors, layout=layout, sample=sample, registry=registry, media=media)
            handle = CollectionHandle(client, chosen, loaded, registry)
        return cls(handle, owns_client=owned)

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, slots={list(self.handle.slots)})"

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what `open` opened: the embedding cache, and the store unless a client was given."""
        self.handle.close()
        if self._owns_client:
            self.client.close()

    def for_tenant(self, tenant: str) -> TenantCollection:
        """The collection limited to the documents of `tenant`.

        Raises:
            TenantError: the collection has no tenants, or this can be none.
        """
        return TenantCollection(self.handle, tenant)

    def plan(self, config: str | Path | Config, *, again: Iterable[str] = (), sample: int = SAMPLE) -> Plan:
        """What applying a config would change and cost; changes nothing. See `diptych.swap.plan`.

        Args:
            config: what is wanted, or the path of its file.
            again: slots to re-encode although nothing differs.
            sample: documents that are encoded to estimate time and size; 0 estimates nothing.
        """
        from diptych import swap

        return swap.plan(self.handle, self._loaded(config), again=frozenset(again), sample=sample)

    def apply(
        self,
        config: str | Path | Config,
        options: ApplyOptions | None = None,
        *,
        progress: Progress | None = None,
        stopped: threading.Event | None = None,
    ) -> ApplyReport:
        """Move the collection to the encoders and settings of a config while it answers. See `diptych.swap.apply`.

        Args:
            config: what is wanted, or the path of its file.
            options: how it is applied.
            progress: receives the progress of the back-fill.
            stopped: ends the work at the next chunk when it is set; a later `apply` continues from there.

        Raises:
            GateFailed: the gate keeps the old encoders or settings.
            ApplyRunning, SwapError, PopulateError: see `diptych.swap.apply`.
        """
        from diptych import swap

        return swap.apply(self.handle, self._loaded(config), options, progress=progress, stopped=stopped)

    def rollback(self, *, why: str = "", anyway: bool = False, later: bool = False) -> StepBack:
        """Undo the last cut-over, or abandon a swap under way. See `diptych.swap.rollback`.

        Args:
            why: a word for the history.
            anyway: roll back although a populate could not write the earlier vectors of some documents.
            later: do not wait until the vectors of an abandoned swap can be dropped; see `finish`.
        """
        from diptych import swap

        return swap.rollback(self.handle, why=why, anyway=anyway, later=later)

    def finish(self, *, later: bool = False) -> StepBack:
        """Drop the vectors that are kept for a rollback. See `diptych.swap.finish`.

        Args:
            later: do not wait until a server has flushed all writes that name them; the next `finish`, `apply` or
                `populate` drops them.
        """
        from diptych import swap

        return swap.finish(self.handle, later=later)

    def status(self) -> Status:
        """Which vectors are live, being built and kept, and what was done. See `diptych.swap.status`."""
        from diptych import swap

        return swap.status(self.handle)

    def _loaded(self, config: str | Path | Config) -> Config:
        loaded = config_at(config, self.handle.registry)
        if self.handle.metadata is not None:
            require_same(loaded, self.handle.metadata)
        return loaded

    @needs_answers("try again once it does")
    def info(self) -> CollectionInfo:
        """What the collection holds and what made its vectors. Loads no encoder."""
        slots = self.handle.metadata.live.slots if self.handle.metadata else {}
        unread = stored_unread(self.client, self.name) if slots else {}
        rows = tuple(
            SlotInfo(
                name=name,
                kind=generation.kind,
                adapter=generation.adapter,
                options=generation.options,
                vector=generation.vector,
                fingerprint=str(generation.fingerprint),
                statistics=generation.statistics,
                generation=generation.number,
                unread=unread.get(generation.vector),
                of=generation.reading.modality,
            )
            for name, generation in slots.items()
        )
        tenancy = self.handle.metadata.tenancy if self.handle.metadata else None
        kinds = [slot.kind for slot in self.handle.slots.values()]
        warnings = version_warnings(self.client, kinds, tenants=tenancy is not None)
        search, field = self.handle.search_config, tenancy.field if tenancy else ""
        fusion = asdict(search.fuse) if len(search.retrieved(slots)) > 1 else {}
        return CollectionInfo(self.name, self.count(), rows, field, tuple(warnings), fusion)


class TenantCollection(CollectionPopulate, Searching):
    """A `Collection` limited to the documents of one tenant. `Collection.for_tenant` creates it.

    It costs nothing to make, and closes nothing: the collection that it comes from stays open.

    Args:
        handle: of the collection.
        tenant: whose documents are read and written.

    Raises:
        TenantError: the collection has no tenants, or this can be none; at a question, another tenant is named.
    """

    def __init__(self, handle: CollectionHandle, tenant: str) -> None:
        self.handle, self.tenant = handle, tenant
        scope_of(handle.view, "" if tenant is None else tenant)  # both are refused, even where none is required

    def __repr__(self) -> str:
        return f"TenantCollection({self.name!r}, {self.tenant!r})"

    def for_tenant(self, tenant: str) -> TenantCollection:
        """The same tenant's collection, if `tenant` is its own, for programs that always name a tenant.

        Raises:
            TenantError: it is another's.
        """
        return TenantCollection(self.handle, self._tenant("" if tenant is None else tenant))

    def _tenant(self, tenant: str | None) -> str:
        if tenant not in (None, self.tenant):
            raise TenantError(
                "this is one tenant's view of the collection",
                where=repr(self),
                got=f"tenant={tenant!r}",
                do="leave `tenant` out, or ask the collection itself",
            )
        return self.tenant
