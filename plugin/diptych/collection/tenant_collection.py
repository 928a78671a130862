"""`TenantCollection`: a collection as one tenant sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from diptych.collection.populate_methods import CollectionPopulate
from diptych.collection.queries import Searching
from diptych.encoders import Encoders
from diptych.errors import TenantError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.tenancy import scope_of
from diptych.search.options import Options, SearchOptions, options_of

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.search.qdrant.filters import FilterLike, Where


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
        scope_of(handle.view, self._text(tenant))

    @property
    def name(self) -> str:
        """The collection's name in the store."""
        return self.handle.name

    @property
    def client(self) -> QdrantBase:
        """The Qdrant client, which does not limit anything to the tenant."""
        return self.handle.client

    @property
    def encoders(self) -> Encoders:
        """The encoders and rerankers that serve the collection, the same for all tenants."""
        return Encoders.of(self.handle)

    def __repr__(self) -> str:
        return f"TenantCollection({self.name!r}, {self.tenant!r})"

    def for_tenant(self, tenant: str) -> TenantCollection:
        """This object, if `tenant` is its own, for programs that always name a tenant.

        Raises:
            TenantError: it is another's.
        """
        return TenantCollection(self.handle, self._tenant(self._text(tenant)))

    def count(self, filter: FilterLike | None = None, *, where: Where | None = None) -> int:
        """Number of documents of the tenant, or of those that match a filter; 0 before the first populate.

        Args:
            filter, where: which documents are counted, as in `search`; all of them unless given.
        """
        from diptych.collection import documents

        return documents.count(self.handle, filter, where=where, tenant=self.tenant)

    def _options(self, **options: Unpack[SearchOptions]) -> Options:
        options["tenant"] = self._tenant(options.get("tenant"))
        return options_of(options)

    def _tenant(self, tenant: str | None) -> str:
        if tenant not in (None, self.tenant):
            raise TenantError(
                "this is one tenant's view of the collection",
                where=repr(self),
                got=f"tenant={tenant!r}",
                do="leave `tenant` out, or ask the collection itself",
            )
        return self.tenant

    def _text(self, tenant: str | None) -> str:
        """Refuse a tenant that is not text, even where the collection requires none."""
        return "" if tenant is None else tenant
