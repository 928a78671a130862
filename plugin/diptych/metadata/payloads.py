"""Documents as payloads and back: metadata, `text` and `title` are separate keys, which makes filters simple.

{"section": "sound", "text": "...", "title": "...", "_diptych": {"id": "lame", "hash": "..."}}

Media stand beside the id: see `diptych.metadata.media_payloads`.
Collections that others filled have another `Layout`, which is kept when documents are written into them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diptych.errors import DocumentError
from diptych.metadata import media_payloads, node_payloads, payload_paths
from diptych.metadata.media_payloads import MEDIA, media_in, payload_of, with_keys, without_media
from diptych.metadata.models import Layout
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.media import MediaStore
    from diptych.registry import Registry

OWN = media_payloads.OWN
RESERVED = ("text", "title", OWN)
NATIVE = Layout()
LARGEST = 2**64 - 1
_NAMESPACE = uuid.UUID("a0a9d2b2-6f0b-5d0e-9d8b-0c6f3b1f6c11")
# Point ids that a framework computes from the document's id: name spaces of UUID version 5.
DERIVED = {"haystack": uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")}


def to_payload(
    document: Document,
    content_hash: str,
    layout: Layout = NATIVE,
    existing: Mapping[str, Any] | None = None,
    media: MediaStore | None = None,
) -> dict[str, Any]:
    """The point's payload.

    Args:
        existing: in an adopted collection, the payload that the point has so far: what is not the document's stays.
        media: says what of media is stored; without it nothing is.

    Raises:
        DocumentError: the metadata uses a key that the layout needs.
    """
    if layout.origin != NATIVE.origin:
        payload = _adopted_payload(document, layout, existing or {}, payload_of(document, media))
        return payload if media is None else with_keys(payload, document, layout.media, existing or {})
    require_unreserved(document)
    title = {"title": document.title} if document.title else {}
    internal = {"id": document.id, "hash": content_hash, **(payload_of(document, media) if document.media else {})}
    return {**document.metadata, "text": document.text, **title, OWN: internal}


def require_unreserved(document: Document) -> None:
    """Raise DocumentError where the metadata uses a key that diptych's own layout needs."""
    for key in RESERVED:
        if key in document.metadata:
            raise _reserved(document, key, RESERVED)


def from_payload(point_id: object, payload: Mapping[str, Any] | None, layout: Layout = NATIVE) -> Document:
    """The document of a point. If its payload has no id, the point id is the document's id."""
    if layout.origin != NATIVE.origin:
        return _adopted_document(point_id, payload or {}, layout)
    metadata = dict(payload or {})
    internal = metadata.pop(OWN, None) or {}
    text, title = metadata.pop("text", ""), metadata.pop("title", "")
    name, media = str(internal.get("id", point_id)), media_in(internal) if MEDIA in internal else {}
    return Document(name, str(text or ""), str(title or ""), metadata, media)


def text_fields(layout: Layout, *, media: bool = False) -> list[str]:
    """The payload keys that `from_payload` needs for title and text, and for media."""
    fields = dict.fromkeys(payload_paths.head(path) for path in (layout.text, layout.title) if path)
    return [*fields, *([f"{OWN}.{MEDIA}"] if media else [])]


def id_fields(layout: Layout) -> list[str]:
    """The payload keys that `from_payload` needs for the id."""
    id_key = f"{OWN}.id"  # not all of it, which may hold the bytes of media
    return [id_key, *([payload_paths.head(layout.id)] if layout.id and layout.id != id_key else [])]


def field_of(layout: Layout, name: str) -> str:
    """The payload key for what a document calls `text`, `title`, or a key of its metadata."""
    key = {"text": layout.text, "title": layout.title}.get(name)
    if key:
        return payload_paths.head(key)
    return f"{layout.metadata}.{name}" if layout.metadata else name


def written_as(
    document: Document, layout: Layout, point: object, existing: Mapping[str, Any] | None = None
) -> Document:
    """The document as it will be read back: an adopted layout may store the title elsewhere.

    Raises:
        DocumentError: the metadata uses a key that the layout needs.
    """
    return replace(from_payload(point, to_payload(document, "", layout, existing), layout), media=document.media)


def point_id(
    document: Document, registry: Registry | None, layout: Layout = NATIVE, *, identity: str | None = None
) -> int | str:
    """The document's point id: that of the layout's own writer, a plugin's choice, or a UUID from the id.

    Args:
        registry: whose plugins may choose; None where none of them does.
        identity: what the UUID is made from, where the id alone does not tell documents apart.
    """
    if layout.origin in DERIVED:
        return derived_point(document.id, layout.origin)
    if layout.id is None or layout.own_points:
        return usual_point(document.id)
    chosen: int | str | None = registry.hook.diptych_point_id(document=document) if registry else None
    return hashed_point(identity or document.id) if chosen is None else chosen


def has_foreign_point_ids(layout: Layout) -> bool:
    """Whether only the store knows a document's point, because another program chose the point ids."""
    return layout.origin not in (NATIVE.origin, *DERIVED) and layout.id is not None and not layout.own_points


def id_filter(ids: Sequence[str], layout: Layout) -> models.Filter:
    """Qdrant's condition for the points of these documents."""
    from qdrant_client import models

    path = layout.id or f"{OWN}.id"
    values = [payload_id(identifier, layout) for identifier in ids]
    kinds: tuple[list[Any], ...] = (
        [v for v in values if isinstance(v, str)],
        [v for v in values if isinstance(v, int)],
    )
    conditions: list[Any] = [
        models.FieldCondition(key=path, match=models.MatchAny(any=group)) for group in kinds if group
    ]
    if layout.id is None:
        points = [point for point in map(own_point, ids) if point is not None]
        conditions.append(models.HasIdCondition(has_id=points))
    return models.Filter(should=conditions)


def _adopted_document(point_id: object, payload: Mapping[str, Any], layout: Layout) -> Document:
    if layout.origin == node_payloads.ORIGIN:
        payload = node_payloads.parsed(payload)
    internal = payload.get(OWN) or {}
    identifier = payload_paths.find(payload, layout.id) if layout.id else None
    text, title = (
        payload_paths.find(payload, layout.text),
        payload_paths.find(payload, layout.title) if layout.title else None,
    )
    media = media_in(internal)
    metadata = _metadata(payload, layout, [key for modality, key in layout.media.items() if modality in media])
    name = internal.get("id", point_id) if identifier is None else identifier
    return Document(str(name), _as_text(text), _as_text(title), metadata, media)


def _metadata(payload: Mapping[str, Any], layout: Layout, named: Sequence[str]) -> dict[str, Any]:
    """All but text, title, id, and the keys that name media which the document has."""
    fields = dict(payload)
    for path in (
        *named,
        layout.text,
        layout.title,
        layout.id,
        OWN,
        node_payloads.NODE if layout.origin == node_payloads.ORIGIN else None,
    ):
        fields = payload_paths.without(fields, path) if path else fields
    metadata = fields if layout.metadata is None else payload_paths.find(fields, layout.metadata)
    return dict(metadata) if isinstance(metadata, Mapping) else {}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _adopted_payload(
    document: Document, layout: Layout, existing: Mapping[str, Any], media: Mapping[str, Any]
) -> dict[str, Any]:
    metadata, existing = _with_title(document, layout), without_media(existing)
    _require_free(document, metadata, layout)
    named = {"id": document.id} if layout.id is None and own_point(document.id) is None else {}
    internal = {OWN: {**named, **media}} if named or media else {}
    if layout.origin == node_payloads.ORIGIN:
        return {
            **node_payloads.node_payload(document.id, usual_point(document.id), document.text, metadata, existing),
            **internal,
        }
    payload: dict[str, Any] = {**existing} if layout.metadata else {**metadata}
    if layout.metadata:
        payload = payload_paths.put(payload, layout.metadata, metadata)
    if layout.id:
        payload = payload_paths.put(payload, layout.id, payload_id(document.id, layout))
    if layout.title:
        payload = payload_paths.without(payload, layout.title)
    if layout.title and document.title:
        payload = payload_paths.put(payload, layout.title, document.title)
    return {**payload_paths.put(payload, layout.text, document.text), **internal}


def _with_title(document: Document, layout: Layout) -> dict[str, Any]:
    """The metadata, with the title added where the layout has no other place for it."""
    metadata = dict(document.metadata)
    derived = layout.origin == node_payloads.ORIGIN
    if not document.title or (layout.title and not derived):
        return metadata
    if derived and node_payloads.is_header(document.title, metadata):
        return metadata
    if "title" in metadata:
        raise _reserved(document, "title", ("title",))
    return {"title": document.title, **metadata}


def _require_free(document: Document, metadata: Mapping[str, Any], layout: Layout) -> None:
    """Raise DocumentError if the metadata would overwrite text, title, id, or what names its media."""
    prefix = f"{layout.metadata}." if layout.metadata else ""
    named = (key for modality, key in layout.media.items() if modality in document.media)
    paths = [path for path in (layout.text, layout.title, layout.id, *named) if path]
    inner = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
    reserved = (
        inner
        if layout.metadata
        else [OWN, *inner, *(node_payloads.OWN if layout.origin == node_payloads.ORIGIN else ())]
    )
    for path in reserved:
        if payload_paths.has(metadata, path):
            raise _reserved(document, path, reserved)


def _reserved(document: Document, key: str, reserved: Sequence[str]) -> DocumentError:
    return DocumentError(
        f"metadata uses the reserved key {key!r}",
        where=f"document {document.id!r}",
        do=f"rename it; reserved are {', '.join(reserved)}",
    )


# Document ids and point ids.


def own_point(identifier: str) -> int | str | None:
    """The point id equal to this document's id, None when Qdrant does not allow it as a point id."""
    if identifier.isascii() and identifier.isdigit():
        number = int(identifier)
        return number if number <= LARGEST and str(number) == identifier else None
    try:
        return identifier if str(uuid.UUID(identifier)) == identifier else None
    except ValueError:
        return None


def hashed_point(identifier: str, namespace: uuid.UUID = _NAMESPACE) -> str:
    """A UUID derived from a document's id alone.

    This is `uuid.uuid5` as text, in half the time, since populate makes one for each document. See RFC 9562, 5.5.
    """
    digest = hashlib.sha1(namespace.bytes + identifier.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & ~(0xF000 << 64 | 0xC000 << 48) | 5 << 76 | 0x8000 << 48
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def usual_point(identifier: str) -> int | str:
    """The point where point ids are document ids: the id itself, or a UUID derived from it."""
    point = own_point(identifier)
    return hashed_point(identifier) if point is None else point


def derived_point(identifier: str, origin: str) -> str:
    """The point id that the framework `origin` gives to a document."""
    return hashed_point(identifier, DERIVED[origin])


def payload_id(identifier: str, layout: Layout) -> int | str:
    """The id in the type that the collection's payloads use."""
    point = own_point(identifier) if layout.integer_ids else None
    return point if isinstance(point, int) else identifier
