"""Converts document ids into point ids."""

from __future__ import annotations

import hashlib
import uuid

from diptych.metadata.models import Layout

LARGEST = 2**64 - 1
_NAMESPACE = uuid.UUID("a0a9d2b2-6f0b-5d0e-9d8b-0c6f3b1f6c11")
# Point ids that a framework computes from the document's id: name spaces of UUID version 5.
DERIVED = {"haystack": uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")}


def own_point(identifier: str) -> int | str | None:
    """The point id equal to this document's id, None when Qdrant does not allow it as a point id."""
    if identifier.isascii() and identifier.isdigit():
        number = int(identifier)
        return number if number <= LARGEST and str(number) == identifier else None
    try:
        return identifier if str(uuid.UUID(identifier)) == identifier else None
    except ValueError:
        return None


def hashed_point(identifier: str) -> str:
    """A UUID derived from a document's id alone."""
    return _version_5(_NAMESPACE, identifier)


def usual_point(identifier: str) -> int | str:
    """The point where point ids are document ids: the id itself, or a UUID derived from it."""
    own = own_point(identifier)
    return hashed_point(identifier) if own is None else own


def derived_point(identifier: str, origin: str) -> str:
    """The point id that the framework `origin` gives to a document."""
    return _version_5(DERIVED[origin], identifier)


def _version_5(namespace: uuid.UUID, name: str) -> str:
    """`uuid.uuid5` as text, in half the time, since populate makes one for each document. See RFC 9562, 5.5."""
    digest = hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & ~(0xF000 << 64 | 0xC000 << 48) | 5 << 76 | 0x8000 << 48
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def payload_id(identifier: str, layout: Layout) -> int | str:
    """The id in the type that the collection's payloads use."""
    own = own_point(identifier) if layout.integer_ids else None
    return own if isinstance(own, int) else identifier
