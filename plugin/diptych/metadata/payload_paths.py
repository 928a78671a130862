"""Dotted paths into payloads. A key that contains the dots itself takes precedence over nested keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLAIN = re.compile(r"[\w-]+(\[\d*\])?")  # a key, and perhaps which values of its list


def quoted(path: str) -> str:
    """The path as Qdrant's filters expect it: keys with spaces or other signs are quoted."""
    return ".".join(key if _PLAIN.fullmatch(key) or '"' in key else f'"{key}"' for key in path.split("."))


def head(path: str) -> str:
    """The top-level payload key of a path."""
    return path.partition(".")[0]


def find(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a path, None if it does not exist."""
    if path in payload:
        return payload[path]
    key, dot, inner_path = path.partition(".")
    inner = payload.get(key)
    return find(inner, inner_path) if dot and isinstance(inner, Mapping) else None


def has(payload: Mapping[str, Any], path: str) -> bool:
    """Whether the path exists, even if its value is None."""
    key, dot, inner_path = path.partition(".")
    inner = payload.get(key)
    return path in payload or (bool(dot) and isinstance(inner, Mapping) and has(inner, inner_path))


def without(payload: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A copy without the value at the path, and without mappings that become empty."""
    copy = dict(payload)
    if path in copy:
        del copy[path]
        return copy
    key, dot, inner_path = path.partition(".")
    inner = copy.get(key)
    if dot and isinstance(inner, Mapping):
        copy[key] = without(inner, inner_path)
        if inner and not copy[key]:
            del copy[key]
    return copy


def put(payload: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at the path."""
    key, dot, inner_path = path.partition(".")
    if not dot or path in payload:
        return {**payload, path: value}
    inner = payload.get(key)
    return {**payload, key: put(inner if isinstance(inner, Mapping) else {}, inner_path, value)}
