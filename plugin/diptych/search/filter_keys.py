"""Finds filter keys that no document has, usually misspelt ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.tenancy import narrowed, scope

if TYPE_CHECKING:
    from diptych.handle import CollectionHandle


def missing_keys(handle: CollectionHandle, filter: models.Filter | None, *, tenant: str | None = None) -> list[str]:
    """The filter's keys that no document has, or that no document of the tenant has if one is named.

    Each key takes one query to the store, which stops at the first document that has it.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
    """
    if filter is None or not handle.exists:
        return []
    own = scope(handle.view.tenancy, handle.view.layout, tenant, f"collection {handle.name!r}")
    return [key for key in dict.fromkeys(_keys(filter, "")) if not _is_there(handle, key, own)]


def _is_there(handle: CollectionHandle, key: str, own: models.Filter | None) -> bool:
    with_key = models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=key))])
    found, _ = handle.client.scroll(handle.name, narrowed(own, with_key), limit=1, with_payload=False)
    return bool(found)


def _keys(filter: models.Filter, prefix: str) -> Iterator[str]:
    least = filter.min_should.conditions if filter.min_should else None
    for conditions in (filter.must, filter.should, filter.must_not, least):
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            yield from _keys_of(condition, prefix)


def _keys_of(condition: Any, prefix: str) -> Iterator[str]:
    match condition:
        case models.FieldCondition():
            asks_for_nothing = condition.is_empty is not None or condition.is_null is not None
            yield from () if asks_for_nothing else (f"{prefix}{condition.key}",)
        case models.NestedCondition():
            yield from _keys(condition.nested.filter, f"{prefix}{condition.nested.key.removesuffix('[]')}[].")
        case models.Filter():
            yield from _keys(condition, prefix)
