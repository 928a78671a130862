"""Calls to the store, and the meaning of their failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.errors import CollectionNotFound, DiptychError, SearchError, StoreError, StoreUnavailable
from diptych.handle.view import View, narrowed, scope_of, with_ids
from diptych.stores.nodes import search_deadline, seconds_left
from diptych.stores.scroll import pages
from diptych.stores.server_errors import error_line, gave_no_answer, is_refusal, is_temporary, refuses_key, retried

T = TypeVar("T")
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds before further tries; a cluster notices meanwhile that a node is gone


class StoredCollection(Protocol):
    """A collection in its store, such as a `View`."""

    @property
    def client(self) -> QdrantBase:
        """The store's client."""
        ...

    @property
    def name(self) -> str:
        """The collection's name."""
        ...


def read_store(collection: StoredCollection, call: Callable[[], T]) -> T:
    """The result of `call`, which only reads; a temporary failure of a server is retried until the deadline.

    The deadline is the config's `search_timeout`. A client that the program made itself keeps its own timeout.

    Raises:
        SearchError: the store refuses the request.
        CollectionNotFound, StoreUnavailable, StoreError: the collection or the store is at fault.
    """
    with search_deadline(collection.client):
        try:
            return retried(call, pauses=PAUSES, may_pass=is_temporary, wait=_wait)
        except DiptychError:
            raise
        except Exception as error:
            raise _failure(collection, error) from error


def _wait(seconds: float) -> bool:
    """Wait within the deadline; False where it comes before."""
    if seconds > seconds_left():
        return False
    time.sleep(seconds)
    return True


def scrolled(
    collection: StoredCollection,
    chosen: models.Filter | None,
    size: int,
    *,
    payload: bool | models.PayloadSelector = True,
    shard_key: str | None = None,
) -> Iterator[list[models.Record]]:
    """The points that a filter finds, in pages of `size`; each page is read by `read_store`."""
    keys: dict[str, Any] = {} if shard_key is None else {"shard_key_selector": shard_key}
    read = partial(read_store, collection)
    found = pages(collection.client, collection.name, size, chosen, read=read, payload=payload, **keys)
    return (records for records, _ in found)


def records_of(
    view: View,
    ids: Sequence[str],
    tenant: str | None,
    *,
    chosen: models.Filter | None = None,
    payload: bool | models.PayloadSelector = False,
) -> Iterator[models.Record]:
    """The points of those documents that the collection holds for this tenant and that match a filter.

    They are read as a search reads, within its deadline. A document has several where another program wrote them.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        SearchError, StoreError: the store cannot answer.
    """
    own = scope_of(view, tenant)
    if ids:
        wanted = narrowed(own, narrowed(chosen, models.Filter(must=[with_ids(view, ids, tenant)])))
        shard_key = tenant if view.tenancy is not None and view.tenancy.shard_keys else None
        for records in scrolled(view, wanted, len(ids), payload=payload, shard_key=shard_key):
            yield from records


def _failure(collection: StoredCollection, error: Exception) -> DiptychError:
    """The error for a client's exception: no collection, no store, a refused request, or a fault of the store."""
    where, got = f"collection {collection.name!r}", error_line(error)
    if gave_no_answer(error) and not is_temporary(error):  # after any other failure the store may still answer
        return StoreUnavailable("the store does not answer", where=where, got=got, do="search again once it does")
    if refuses_key(error):
        return StoreUnavailable("the store refuses the key", where=where, got=got, do="check api_key")
    try:
        exists = collection.client.collection_exists(collection.name)
    except Exception:
        return StoreUnavailable("the store does not answer", where=where, got=got, do="search again once it does")
    if not exists:
        return CollectionNotFound("the collection is gone", where=where, do="fill it again: diptych populate SOURCE")
    if is_refusal(error):
        return SearchError("the store refuses the search", where=where, got=got, do="fix the filter or the parameters")
    return StoreError("the store failed during the search", where=where, got=got, do="see the store's own log")
