"""`View`: an immutable snapshot of a collection: one search uses one set of encoders, and one tenant's documents."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from qdrant_client import models

from diptych.config.models import Config, SearchConfig
from diptych.errors import AdapterOptionsError, CollectionError, DocumentError, TenantError, brief
from diptych.media import MediaStore
from diptych.metadata.models import CollectionMetadata, Reading, Tenancy
from diptych.metadata.payloads import MEDIA_FIELDS, Layout, own_point
from diptych.protocols import Reranker
from diptych.registry import Registry
from diptych.runtime.validation_messages import is_unicode, nearest
from diptych.slots.consent import named_by
from diptych.slots.slot import Slot
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


T = TypeVar("T")


class Rerankers:
    """The rerankers of a collection, each created at the first call and kept."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: list[tuple[str, dict[str, Any], Reranker]] = []
        self._lock = threading.Lock()

    def get(self, adapter: str, options: Mapping[str, Any], *, stored: bool = False) -> Reranker:
        """The reranker of this adapter with these options; `stored` if the collection itself names it.

        Raises:
            NotTrusted: it is stored, and nobody has agreed to what it asks for.
            RegistryError: it is unknown, is not a reranker, or cannot be created.
        """
        wanted = dict(options)
        # A list, not a dict: options may hold lists, which have no hash. The lock is held while the model loads, so
        # that two threads which search at once do not load it twice.
        with self._lock:
            for name, known, reranker in self._made:
                if name == adapter and known == wanted:
                    return reranker
            registry = self._registry if stored else self._registry.guarded(None)
            if (kind := registry.spec(adapter, where="rerank").kind) != "reranker":
                what = f"adapter {adapter!r} cannot rerank"
                raise AdapterOptionsError(what, where="rerank", got=kind, expected="a reranker")
            reranker = cast(Reranker, registry.create(adapter, wanted, where=f"reranker {adapter!r}"))
            self._made.append((adapter, wanted, reranker))
            return reranker


class Memo(Generic[T]):
    """A value that a module derives from views and keeps with each: a typed field of their caches.

    Args:
        make: makes the value of a view when it is first read.
    """

    def __init__(self, make: Callable[[View], T]) -> None:
        self._make = make

    def __call__(self, view: View) -> T:
        """The view's value; two threads that both find none get the same object."""
        return self.known(view) if self in view.memo else view.memo.setdefault(self, self._make(view))

    def known(self, view: View) -> T:
        """The value that was made already; KeyError where none was."""
        value: T = view.memo[self]
        return value


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Everything a search needs: client, slots and pipeline as they were live when it began.

    `memo` holds the values of every `Memo`. `layout` says where documents lie in
    payloads, `copies` which payload keys do not belong to documents. `has_media`: whether documents may have pictures
    or other media, so that payloads may hold their bytes.
    """

    client: QdrantBase
    name: str
    registry: Registry
    metadata: CollectionMetadata | None
    slots: Mapping[str, Slot]
    search_config: SearchConfig
    reading: Reading
    rerankers: Rerankers
    tenancy: Tenancy | None = None
    media: MediaStore | None = None
    memo: dict[Memo[Any], Any] = field(default_factory=dict)
    layout: Layout = field(init=False)
    copies: tuple[str, ...] = field(init=False)
    has_media: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", self.metadata.copies if self.metadata else ())
        object.__setattr__(self, "layout", self.metadata.layout if self.metadata else Layout())
        stores_content = self.media is not None and self.media.config.store != "reference"
        has_media = stores_content or any(slot.reads_media for slot in self.slots.values())
        object.__setattr__(self, "has_media", has_media)

    @property
    def metadata_fields(self) -> models.PayloadSelectorExclude:
        """The payload to fetch where only the documents' metadata are read: without what may be long."""
        texts = [key for key in (self.layout.text, self.layout.title) if key]
        content = MEDIA_FIELDS["content"] if self.has_media else ()
        return models.PayloadSelectorExclude(exclude=[*texts, *self.copies, *content])

    def now(self) -> View:
        """This view itself, since it never changes. `CollectionHandle.now` may return a newer one."""
        return self

    def unremembered(self) -> View:
        """The same view without caches, those of query vectors included, so that a search takes its whole time."""
        config = self.search_config.model_copy(update={"remember": 0})
        return replace(self, search_config=config, memo={})

    def catch_up(self) -> None:
        """Does nothing; see `CollectionHandle.catch_up`."""

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
                do=nearest(name, self.slots),
            )
        return self.slots[name]

    def reranker(self, adapter: str, options: Mapping[str, Any]) -> Reranker:
        """The reranker, created at the first call and kept.

        Raises:
            NotTrusted: the collection names it, and nobody has agreed to what it asks for.
            RegistryError: it is unknown, is not a reranker, or cannot be created.
        """
        named = named_by(self.metadata) if self.metadata else []
        named += [(stage.label, stage.options) for stage in self.search_config.rerank]
        stored = any((name, dict(own)) == (adapter, dict(options)) for name, own in named)
        return self.rerankers.get(adapter, options, stored=stored)


# Tenants: which tenant a document belongs to, and the filter that limits a query to one tenant's documents.


def tenancy_of(config: Config | None) -> Tenancy | None:
    """The config's tenant settings in the form that collections store."""
    tenant = config.tenant if config else None
    return Tenancy(**tenant.model_dump()) if tenant else None


def require_same(config: Config | None, metadata: CollectionMetadata) -> None:
    """Raise CollectionError when the config and the collection disagree about tenants."""
    wanted, have = tenancy_of(config), metadata.tenancy
    if wanted is None or wanted == have:
        return
    raise CollectionError(
        "config and collection define tenants differently",
        where="tenant",
        got=_words(wanted),
        expected=_words(have) if have else "no tenants",
        do="restore it, or leave `tenant` out of the config; to change it, populate a collection of another name",
    )


def scope(tenancy: Tenancy | None, layout: Layout, tenant: str | None, where: str) -> models.Filter | None:
    """The filter for one tenant's documents; None for a query over all of them.

    Raises:
        TenantError: none is named where the collection requires one, or one is named that cannot be.
    """
    if tenancy is None:
        if tenant is None:
            return None
        do = "leave it out; or name the metadata key in the config, tenant: {field: KEY}, and populate a new collection"
        raise TenantError("the collection has no tenants", where=where, got=f"tenant={tenant!r}", do=do)
    if tenant is None:
        if not tenancy.required:
            return None
        raise TenantError(
            "a tenant is required",
            where=f"{where}, whose documents belong to tenants by {tenancy.field!r}",
            got="no tenant",
            expected="a tenant with every query",
            do='name it, tenant="..." or --tenant; or ask collection.for_tenant("...")',
        )
    if not isinstance(tenant, str) or not tenant or not is_unicode(tenant):
        raise TenantError("not a valid tenant", where=where, got=brief(tenant), expected="a text that is not empty")
    condition = models.FieldCondition(key=layout.field(tenancy.field), match=models.MatchValue(value=tenant))
    return models.Filter(must=[condition])


def scope_of(view: View, tenant: str | None) -> models.Filter | None:
    """The filter for one tenant's documents of a collection, as `scope` makes it."""
    return scope(view.tenancy, view.layout, tenant, f"collection {view.name!r}")


def narrowed(scope: models.Filter | None, filter: models.Filter | None) -> models.Filter | None:
    """Both filters combined: however a caller's filter is nested, it applies only within the scope."""
    if scope is None or filter is None:
        return filter if scope is None else scope
    # The caller's filter is nested, not merged: whatever clauses it has, it cannot widen the scope.
    return models.Filter(must=[scope, filter])


def whole(view: View) -> View:
    """A view over all tenants, for code that examines encoders rather than documents."""
    # `memo` is emptied: what search has worked out for a view may depend on its tenancy.
    return replace(view, tenancy=None, memo={}) if view.tenancy else view


def tenant_of(metadata: Mapping[str, Any], tenancy: Tenancy | None) -> str | None:
    """The tenant that a document's metadata names, None without one."""
    tenant = metadata.get(tenancy.field) if tenancy else None
    return tenant if isinstance(tenant, str) and tenant else None


def with_tenant(document: Document, tenancy: Tenancy | None, tenant: str | None) -> Document:
    """The document with its tenant filled in: its own, or `tenant` if it names none.

    Raises:
        DocumentError: it has none and needs one, has one that is not text, or another than `tenant`.
    """
    if tenancy is None:
        return document
    field, named = tenancy.field, document.metadata.get(tenancy.field)
    if named is None and tenant is not None:
        return replace(document, metadata={**document.metadata, field: tenant})
    if named is None and tenancy.required:
        ways = "it there, or for all documents: populate(..., tenant=...), --tenant, collection.for_tenant(...)"
        raise DocumentError(f"the document names no tenant in its metadata {field!r}", expected=ways)
    if named is not None and (not isinstance(named, str) or not named):
        raise DocumentError(f"the tenant in {field!r} is not text", got=brief(named), expected="one text, not empty")
    if tenant is not None and named != tenant:
        raise DocumentError(f"the document belongs to another tenant than {tenant!r}", got=brief(named))
    return document


def document_key(identifier: str, tenant: str | None, tenancy: Tenancy | None, layout: Layout) -> str:
    """The key that distinguishes a document: its id, with its tenant where each tenant has ids of its own.

    Tenants have ids of their own where every document has a tenant and diptych chooses the points.
    """
    if tenancy is None or not tenancy.required or tenant is None or not layout.is_native:
        return identifier
    return f"{len(tenant)}:{tenant}:{identifier}"  # the length, so that no two pairs give the same key


def needs_payloads(view: View) -> bool:
    """Whether a document's point can only be found by reading payloads."""
    return view.layout.has_foreign_points or bool(view.registry.hook.diptych_point_id.get_hookimpls())


def points_of(view: View, ids: Sequence[str], tenant: str | None) -> list[int | str]:
    """The points that documents with these ids would have: diptych's own, and those of other programs."""
    names = {identifier: document_key(identifier, tenant, view.tenancy, view.layout) for identifier in ids}
    derived = (view.layout.point_id(Document(i, ""), view.registry, identity=name) for i, name in names.items())
    foreign = (point for identifier in ids if (point := own_point(identifier)) is not None)
    return list(dict.fromkeys([*derived, *foreign]))


def with_ids(view: View, ids: Sequence[str], tenant: str | None) -> models.Filter:
    """Qdrant's filter for documents with these ids, of any tenant; without ids it matches nothing."""
    tenancy = view.metadata.tenancy if view.metadata else None
    # Each tenant's documents have points of their own, so the ids do not give the points of all tenants.
    of_all_tenants = tenancy is not None and tenancy.required and tenant is None
    if ids and (of_all_tenants or needs_payloads(view)):
        return view.layout.id_filter(ids)
    return models.Filter(must=[models.HasIdCondition(has_id=points_of(view, ids, tenant))])


def without_ids(
    view: View, filter: models.Filter | None, ids: Sequence[str], tenant: str | None
) -> models.Filter | None:
    """The filter, which also excludes the documents with these ids."""
    if not ids:
        return filter
    return models.Filter(must=None if filter is None else [filter], must_not=[with_ids(view, ids, tenant)])


def _words(tenancy: Tenancy) -> str:
    return ", ".join(f"{key}: {value}" for key, value in tenancy.model_dump().items())
