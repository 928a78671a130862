"""What the store answers, and what its failures mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from diptych.errors import CollectionNotFound, DiptychError, SearchError, StoreUnavailable
from diptych.view import View

T = TypeVar("T")


def ask(handle: View, call: Callable[[], T]) -> T:
    """What the store answers to `call`.

    Raises:
        SearchError, CollectionNotFound, StoreUnavailable: it does not, and why.
    """
    try:
        return call()
    except DiptychError:
        raise
    except Exception as error:
        raise _failure(handle, error) from error


def _failure(handle: View, error: Exception) -> DiptychError:
    """What the client's error means: no collection, no store, or a request it refuses."""
    where, got = f"collection {handle.name!r}", f"{type(error).__name__}: {error}"[:500]
    try:
        exists = handle.client.collection_exists(handle.name)
    except Exception:
        return StoreUnavailable("the store does not answer", where=where, got=got, do="search again once it does")
    if not exists:
        return CollectionNotFound("the collection is gone", where=where, do="fill it again: diptych populate SOURCE")
    return SearchError("the store refuses the search", where=where, got=got)
