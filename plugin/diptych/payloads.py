"""How a document lies in a point: metadata, `text` and `title` as keys of their own, so that filters read plainly.

{"section": "sound", "text": "...", "title": "...", "_diptych": {"id": "lame", "hash": "..."}}
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import DocumentError
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.registry import Registry

OWN = "_diptych"
RESERVED = ("text", "title", OWN)
_NAMESPACE = uuid.UUID("a0a9d2b2-6f0b-5d0e-9d8b-0c6f3b1f6c11")


def to_payload(document: Document, content_hash: str) -> dict[str, Any]:
    """The point's payload.

    Raises:
        DocumentError: the metadata uses a key that diptych needs.
    """
    taken = [key for key in RESERVED if key in document.metadata]
    if taken:
        raise DocumentError(
            f"metadata uses the reserved key {taken[0]!r}",
            where=f"document {document.id!r}",
            do=f"rename it; reserved are {', '.join(RESERVED)}",
        )
    title = {"title": document.title} if document.title else {}
    return {**document.metadata, "text": document.text, **title, OWN: {"id": document.id, "hash": content_hash}}


def from_payload(point_id: object, payload: Mapping[str, Any] | None) -> Document:
    """The document of a point; a point that diptych did not write answers with its point id as the id."""
    rest = dict(payload or {})
    own = rest.pop(OWN, None) or {}
    text, title = rest.pop("text", ""), rest.pop("title", "")
    return Document(str(own.get("id", point_id)), str(text or ""), str(title or ""), rest)


def point_id(document: Document, registry: Registry) -> int | str:
    """The document's point id: a plugin's choice, else a UUID made from the document's id alone."""
    chosen: int | str | None = registry.hook.diptych_point_id(document=document)
    return str(uuid.uuid5(_NAMESPACE, document.id)) if chosen is None else chosen
