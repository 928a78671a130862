"""Calls that fail when repeated: recognises that the first try succeeded and only its answer was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qdrant_client import models

from diptych.errors import CollectionError


def settled(name: str, given: Mapping[str, Any], error: CollectionError, client: Any) -> Any:
    """The lost answer, if `error` of the repeated call proves that the first succeeded; else raise `error`."""
    is_done, answer = _DONE.get(name, (_never, None))
    if not is_done(given, error, client):
        raise error
    return answer


def _never(given: Mapping[str, Any], error: CollectionError, client: Any) -> bool:
    return False


def _exists(given: Mapping[str, Any], error: CollectionError, client: Any) -> bool:
    return "already" in error.what and bool(client.collection_exists(given["collection_name"]))


def _has_vector(given: Mapping[str, Any], error: CollectionError, client: Any) -> bool:
    return "already" in error.what


def _lacks_vector(given: Mapping[str, Any], error: CollectionError, client: Any) -> bool:
    return "has no vector" in error.what


def _renamed(given: Mapping[str, Any], error: CollectionError, client: Any) -> bool:
    known = {alias.alias_name for alias in client.get_aliases().aliases}
    wanted = [
        operation.rename_alias.new_alias_name
        for operation in given["change_aliases_operations"]
        if isinstance(operation, models.RenameAliasOperation)
    ]
    return "there is no alias" in error.what and known.issuperset(wanted)


_COMPLETED = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
_DONE: dict[str, tuple[Callable[[Mapping[str, Any], CollectionError, Any], bool], Any]] = {
    "create_collection": (_exists, True),
    "create_vector_name": (_has_vector, _COMPLETED),
    "delete_vector_name": (_lacks_vector, _COMPLETED),
    "update_collection_aliases": (_renamed, True),
}
