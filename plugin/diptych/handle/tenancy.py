"""Tenants: which tenant a document belongs to, and the filter that limits a query to one tenant's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from diptych.config.models import Config
from diptych.errors import CollectionError, DocumentError, TenantError, brief
from diptych.handle.snapshot import View
from diptych.metadata.models import CollectionMetadata, Tenancy
from diptych.metadata.payloads import Layout, own_point
from diptych.runtime.validation_messages import is_unicode
from diptych.types import Document


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
