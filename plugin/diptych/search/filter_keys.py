"""Finds keys of filters and of groups that no document has, usually misspelt ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.handle.tenancy import narrowed, scope_of
from diptych.metadata.payloads import field_of, from_payload, quoted
from diptych.runtime.validation_messages import nearest
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
SAMPLED = 100  # documents whose keys are proposed
FEW = 8  # keys that a warning names


def warn_of_missing_keys(
    view: View, filter: models.Filter | None, *, tenant: str | None, group_by: str | None = None
) -> None:
    """Log a warning for each key of a filter that no document has. Call it if a search found nothing.

    It checks at most once a second, at most `KEYS` keys, and warns of a key at most once a minute.

    Args:
        view: the collection's.
        filter: the search's, if it has one.
        tenant: whose documents are searched.
        group_by: the key by which hits are grouped; the warning proposes others.
    """
    now, memory = time.monotonic(), _memory(view)
    if (filter is None and group_by is None) or now - memory.get(None, -PAUSE) < PAUSE:
        return
    if len(memory) > MOST_KEYS:
        memory.clear()
    memory[None] = now

    def is_new(key: str) -> bool:
        return now - memory.get((tenant, key), -SELDOM) >= SELDOM

    new = [] if filter is None else [key for key in _some_keys(filter) if is_new(key)]
    try:
        with search_deadline(view.client):
            missing = _problems(view, new, tenant)
            if group_by is not None and is_new(group_by) and (problem := group_problem(view, group_by, tenant=tenant)):
                missing[group_by] = problem
    except Exception:  # the search was answered; the next call reports a store that has failed since
        return
    for key, problem in missing.items():
        memory[tenant, key] = now
        LOG.warning("collection %r: %s", view.name, problem)


def group_problem(view: View, key: str, *, tenant: str | None) -> str:
    """A sentence about a key to group by that no document has, with others that there are.

    It is empty if a document has it, or if there is no document.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        StoreUnavailable, StoreError: the store does not answer, or fails.
    """
    tenant_scope = scope_of(view, tenant)
    if read_store(view, lambda: _is_there(view, quoted(key), tenant_scope)):
        return ""
    known = read_store(view, lambda: _some_fields(view, tenant_scope))
    if known is None:
        return ""
    proposal = proposed(key, known)
    return f"no document has {key!r}, by which hits are grouped{f': {proposal}' if proposal else ''}"


def proposed(key: str, known: Sequence[str]) -> str:
    """`did you mean 'letter'?`, or some of the known keys; empty if there are none."""
    last = [name for name in known if name.rpartition(".")[2] == key]  # beneath the key of a program's metadata
    near = f"did you mean {last[0]!r}?" if last else nearest(key, known)
    if not near and known:
        near = f"there are {', '.join(known[:FEW])}{' and others' if len(known) > FEW else ''}"
    return near


def _some_fields(view: View, tenant_scope: models.Filter | None) -> list[str] | None:
    """Payload keys of the metadata of some documents; None if there is no document."""
    texts = [key for key in (view.layout.text, view.layout.title) if key]  # not read, since they may be long
    left_out = models.PayloadSelectorExclude(exclude=[*texts, *view.copies])
    records, _ = view.client.scroll(view.name, tenant_scope, limit=SAMPLED, with_payload=left_out)
    if not records:
        return None
    documents = (from_payload(record.id, record.payload, view.layout) for record in records)
    return list(dict.fromkeys(quoted(field_of(view.layout, name)) for found in documents for name in found.metadata))


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


def missing_keys(
    handle: CollectionHandle, filter: models.Filter | None, *, tenant: str | None = None
) -> dict[str, str]:
    """The filter's keys that no document has, or none of the tenant if one is named, with a sentence about each.

    Each key takes one query to the store, which stops at the first document that has it.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        StoreUnavailable, StoreError: the store does not answer, or fails.
    """
    if filter is None or not handle.exists:
        return {}
    return read_store(handle.view, lambda: _problems(handle.view, dict.fromkeys(_keys(filter, "")), tenant))


def _problems(view: View, keys: Iterable[str], tenant: str | None) -> dict[str, str]:
    """A sentence about each of the keys that no document has, with the keys that may have been meant."""
    missing = _missing(view, keys, tenant)
    known = (_some_fields(view, scope_of(view, tenant)) if missing else None) or []
    proposals = {key: proposed(key.replace("[].", "."), known) for key in missing}
    return {
        key: f"no document has {key!r}, which the filter asks for{f': {proposal}' if proposal else ''}"
        for key, proposal in proposals.items()
    }


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
