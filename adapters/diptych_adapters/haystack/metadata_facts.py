"""What the documents' metadata hold: fields, extremes, distinct values. Told from the documents, one by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from haystack import Document

_TYPES = {bool: "boolean", int: "long", float: "float"}  # and `keyword` for all else, in Haystack's words


def fields_of(documents: Iterable[Document]) -> dict[str, dict[str, str]]:
    """The type of each field, by its first value."""
    found: dict[str, dict[str, str]] = {}
    for document in documents:
        for name, value in document.meta.items():
            if value is not None:
                found.setdefault(name, {"type": _TYPES.get(type(value), "keyword")})
    return found


def extremes_of(documents: Iterable[Document], field: str) -> dict[str, Any]:
    """The least and the greatest value of a field; None without any. Values that do not compare are left out."""
    kinds: dict[bool, list[Any]] = {True: [], False: []}
    for value in _values(documents, field):
        if isinstance(value, int | float | str):
            kinds[isinstance(value, str)].append(value)
    values = kinds[False] or kinds[True]
    return {"min": min(values, default=None), "max": max(values, default=None)}


def numbers_of_values(documents: Iterable[Document], fields: Sequence[str]) -> dict[str, int]:
    """How many distinct values each of the fields has."""
    found: dict[str, set[object]] = {field: set() for field in fields}
    for document in documents:
        for field, values in found.items():
            values.update(map(_key, _values([document], field)))
    return {field: len(values) for field, values in found.items()}


def values_of(documents: Iterable[Document], field: str, search_term: str | None) -> list[Any]:
    """The distinct values of a field whose text holds `search_term`, by their text and type."""
    found = {_key(value): value for value in _values(documents, field)}
    term = (search_term or "").lower()
    wanted = [value for value in found.values() if term in str(value).lower()]
    return sorted(wanted, key=lambda value: (str(value), type(value).__name__))


def _values(documents: Iterable[Document], field: str) -> Iterator[Any]:
    """The values of a field, `meta.` before it or not, dots leading inwards; those of a list one by one."""
    parts = field.removeprefix("meta.").split(".")
    for document in documents:
        value: Any = document.meta
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        yield from (one for one in (value if isinstance(value, list) else [value]) if one is not None)


def _key(value: object) -> object:
    """What tells values apart; 1, 1.0 and True are equal in Python, and a mapping has no hash."""
    return type(value), json.dumps(value, sort_keys=True, default=str)
