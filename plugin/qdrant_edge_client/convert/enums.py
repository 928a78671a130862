"""Members of Qdrant Edge's enums for the values of qdrant-client's."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any

from qdrant_edge_client.errors import StoreUnsupported


def member(edge_enum: Any, value: Enum | str | None) -> Any:
    """The member of `edge_enum` for `value`; None stays None.

    Raises:
        StoreUnsupported: Edge has no such member.
    """
    if value is None:
        return None
    text = value.value if isinstance(value, Enum) else str(value)
    edge_member = _members(edge_enum).get(_key(text))
    if edge_member is None:
        raise StoreUnsupported(
            f"Qdrant Edge has no {edge_enum.__name__} {text!r}",
            expected=", ".join(sorted(_members(edge_enum))),
            do="choose one of these, or use a server: store: http(s)://...",
        )
    return edge_member


@cache
def _members(edge_enum: Any) -> dict[str, Any]:
    names = (name for name in dir(edge_enum) if not name.startswith("_"))
    return {_key(name): getattr(edge_enum, name) for name in names}


def _key(name: str) -> str:
    return name.replace("_", "").lower()
