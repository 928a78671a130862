"""Finds filter keys that no document has, usually misspelt ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.handle.tenancy import narrowed, scope_of
from diptych.search.qdrant.store_calls import read_store
from diptych.stores.nodes import search_deadline

if TYPE_CHECKING:
    from diptych.handle.collection_handle import CollectionHandle
    from diptych.handle.snapshot import View

LOG = logging.getLogger(__name__)
SELDOM = 60.0  # seconds between two warnings of the same key
PAUSE = 1.0  # seconds between two checks of any keys; a check costs a search
KEYS = 16  # keys of a filter that are checked, at most
MOST_KEYS = 1000  # keys that are remembered


def warn_of_missing_keys(view: View, filter: models.Filter | None, *, tenant: str | None) -> None:
    """Log a warning for each key of a filter that no document has. Call it if a search with the filter found nothing.

    It checks at most once a second, at most `KEYS` keys, and warns of a key at most once a minute.
    """
    now, memory = time.monotonic(), _memory(view)
    if filter is None or now - memory.get(None, -PAUSE) < PAUSE:
        return
    if len(memory) > MOST_KEYS:
        memory.clear()
    memory[None] = now
    new = [key for key in _some_keys(filter) if now - memory.get((tenant, key), -SELDOM) >= SELDOM]
    try:
        with search_deadline(view.client):
            missing = _missing(view, new, tenant)
    except Exception:  # the search was answered; the next call reports a store that has failed since
        return
    for key in missing:
        memory[tenant, key] = now
        LOG.warning("collection %r: no document has %r, which the filter asks for", view.name, key)


def known_missing(view: View, filter: models.Filter, *, tenant: str | None) -> list[str]:
    """The filter's keys with a warning within the last minute. Makes no call to the store."""
    now, memory = time.monotonic(), _memory(view)
    return [key for key in _some_keys(filter) if now - memory.get((tenant, key), -SELDOM) < SELDOM]


def some_missing(view: View, filter: models.Filter, *, tenant: str | None) -> list[str]:
    """The filter's keys that no document has, of its first `KEYS`. Asks the store for each.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        StoreUnavailable, StoreError: the store does not answer, or fails.
    """
    return read_store(view, lambda: _missing(view, _some_keys(filter), tenant))


def _memory(view: View) -> dict[tuple[str | None, str] | None, float]:
    """When keys were found missing, by tenant and key; under None the time of the last check."""
    found: dict[tuple[str | None, str] | None, float] = view.memo.setdefault("missing keys", {})
    return found


def _some_keys(filter: models.Filter) -> list[str]:
    return list(dict.fromkeys(_keys(filter, "")))[:KEYS]


def missing_keys(handle: CollectionHandle, filter: models.Filter | None, *, tenant: str | None = None) -> list[str]:
    """The filter's keys that no document has, or that no document of the tenant has if one is named.

    Each key takes one query to the store, which stops at the first document that has it.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        StoreUnavailable, StoreError: the store does not answer, or fails.
    """
    if filter is None or not handle.exists:
        return []
    return read_store(handle.view, lambda: _missing(handle.view, dict.fromkeys(_keys(filter, "")), tenant))


def _missing(view: View, keys: Iterable[str], tenant: str | None) -> list[str]:
    tenant_scope = scope_of(view, tenant)
    return [key for key in keys if not _is_there(view, key, tenant_scope)]


def _is_there(view: View, key: str, tenant_scope: models.Filter | None) -> bool:
    with_key = models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=key))])
    found, _ = view.client.scroll(view.name, narrowed(tenant_scope, with_key), limit=1, with_payload=False)
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
