"""Documents as payloads and back: metadata, `text` and `title` are separate keys, which makes filters simple.

{"section": "sound", "text": "...", "title": "...", "_diptych": {"id": "lame", "hash": "..."}}

Collections that others filled have another `Layout`, which is kept when documents are written into them; its keys are
dotted paths, and a key that contains the dots itself takes precedence over nested keys. LlamaIndex writes a node as
JSON in one string, and repeats its metadata at the top level for filters. It encodes a header, one line for each
metadata key that the node does not exclude, followed by the text: for diptych the header is the document's title.

Media stand beside the id as references, with a thumbnail or the bytes if configured:

    "_diptych": {"id": "lame", ..., "media": {"image": {"digest": "...", "bytes": 812, "source": "lame.png"}}}

A document that has media and no text says `"textless": true` there, so that it is not expected to have vectors of text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from diptych.errors import DocumentError
from diptych.media import MODALITIES, Media, RawMedia, from_json, from_payload, to_json
from diptych.media.read import format_of
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.media import MediaStore
    from diptych.registry import Registry

OWN, MEDIA, TEXTLESS = "_diptych", "media", "textless"
THUMBNAIL = "thumbnail"
LARGEST_THUMBNAIL = 1_000_000  # characters of base64; those that diptych makes have a hundredth of it
PICTURED = ("image", "video")  # the modalities that have thumbnails; that of a clip is its first frame
_ITEM = {"reference": ("digest", "bytes", "source"), "content": ("data", THUMBNAIL)}  # the keys of an item
MEDIA_FIELDS: Mapping[str, Sequence[str]] = {
    part: [f"{OWN}.{MEDIA}.{modality}.{key}" for modality in MODALITIES for key in keys] for part, keys in _ITEM.items()
}
"""The payload keys of references to media, and those of their bytes and thumbnails, which searches do not fetch."""
THUMBNAIL_FIELDS = [f"{OWN}.{MEDIA}.{modality}.{THUMBNAIL}" for modality in PICTURED]

LLAMA_INDEX = "llama-index"
NODE = "_node_content"
TEXT, HEADER = f"{NODE}.text", f"{NODE}.header"
_SOURCE = "1"  # LlamaIndex's number for the relationship of a node with the document that it comes from
_REFERENCES = ("document_id", "doc_id", "ref_doc_id")
_OTHER_KEYS = ("_node_type", *_REFERENCES)
NODE_KEYS = (NODE, *_OTHER_KEYS)  # what a document's metadata must leave alone

_PLAIN = re.compile(r"[\w-]+(\[\d*\])?")  # a key, and perhaps which values of its list

RESERVED = ("text", "title", OWN)
LARGEST = 2**64 - 1
_NAMESPACE = uuid.UUID("a0a9d2b2-6f0b-5d0e-9d8b-0c6f3b1f6c11")
# Point ids that a framework computes from the document's id: name spaces of UUID version 5.
DERIVED = {"haystack": uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")}


class Layout(BaseModel):
    """Where a document lies in a point's payload: reads documents, and writes them; keys may be dotted paths.

    Args:
        text, title: keys of the two parts; None where there is none.
        id: key of the document's id; None when the point's id is the document's.
        metadata: key beneath which the metadata lies; None when it lies at the top.
        origin: who wrote the payloads.
        integer_ids: whether what lies under `id` are numbers.
        own_points: whether what lies under `id` is the point's id, too.
        media: by modality, the key under which another program names media by path or URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = "text"
    title: str | None = "title"
    id: str | None = "_diptych.id"
    metadata: str | None = None
    origin: str = "diptych"
    integer_ids: bool = False
    own_points: bool = False
    media: dict[str, str] = {}

    def read(self, point_id: object, payload: Mapping[str, Any] | None) -> Document:
        """The document of a point. If its payload has no id, the point id is the document's id."""
        if self.origin == "diptych":  # for each hit of a search, so without calls that are not needed
            metadata = dict(payload or {})
            internal = metadata.pop(OWN, None) or {}
            text, title = metadata.pop("text", ""), metadata.pop("title", "")
            media = media_in(payload) if MEDIA in internal else {}
            return Document(str(internal.get("id", point_id)), str(text or ""), str(title or ""), metadata, media)
        fields = parsed(payload or {}) if self.origin == LLAMA_INDEX else payload or {}
        internal = fields.get(OWN) or {}
        name = find(fields, self.id) if self.id else None
        name = internal.get("id", point_id) if name is None else name
        title = find(fields, self.title) if self.title else None
        text, media = find(fields, self.text), media_in(payload)
        named = [key for modality, key in self.media.items() if modality in media]
        rest = dict(fields)  # all but text, title, id, and the keys that name the document's media
        for path in (*named, self.text, self.title, self.id, OWN, NODE if self.origin == LLAMA_INDEX else None):
            rest = without(rest, path) if path else rest
        found = rest if self.metadata is None else find(rest, self.metadata)
        metadata = dict(found) if isinstance(found, Mapping) else {}
        return Document(str(name), _as_text(text), _as_text(title), metadata, media)

    def write(
        self,
        document: Document,
        content_hash: str = "",
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
        stored = payload_of(document, media) if document.media else {}
        if self.is_native:
            require_unreserved(document)
            title = {"title": document.title} if document.title else {}
            internal = {"id": document.id, "hash": content_hash, **stored}
            return {**document.metadata, "text": document.text, **title, OWN: internal}
        payload = self._adopted(document, without_media(existing or {}), stored)
        return payload if media is None else with_keys(payload, document, self.media, existing or {})

    def as_written(self, document: Document, point: object, existing: Mapping[str, Any] | None = None) -> Document:
        """The document as it will be read back: an adopted layout may store the title elsewhere.

        Raises:
            DocumentError: the metadata uses a key that the layout needs.
        """
        return replace(self.read(point, self.write(document, "", existing)), media=document.media)

    @property
    def is_native(self) -> bool:
        """Whether diptych itself wrote the payloads, which then hold the content's hash."""
        return self.origin == NATIVE.origin

    @property
    def has_foreign_points(self) -> bool:
        """Whether only the store knows a document's point, because another program chose the point ids."""
        return self.origin not in (NATIVE.origin, *DERIVED) and self.id is not None and not self.own_points

    def text_fields(self, *, media: bool = False) -> list[str]:
        """The payload keys that `read` needs for title and text, and for media."""
        fields = dict.fromkeys(head(path) for path in (self.text, self.title) if path)
        return [*fields, *([f"{OWN}.{MEDIA}"] if media else [])]

    def id_fields(self) -> list[str]:
        """The payload keys that `read` needs for the id."""
        id_key = f"{OWN}.id"  # not all of it, which may hold the bytes of media
        return [id_key, *([head(self.id)] if self.id and self.id != id_key else [])]

    def field(self, name: str) -> str:
        """The payload key for what a document calls `text`, `title`, or a key of its metadata."""
        key = {"text": self.text, "title": self.title}.get(name)
        if key:
            return head(key)
        return f"{self.metadata}.{name}" if self.metadata else name

    def point_id(self, document: Document, registry: Registry | None, *, identity: str | None = None) -> int | str:
        """The document's point id: that of the layout's own writer, a plugin's choice, or a UUID from the id.

        Args:
            registry: whose plugins may choose; None where none of them does.
            identity: what the UUID is made from, where the id alone does not tell documents apart.
        """
        if self.origin in DERIVED:
            return hashed_point(document.id, DERIVED[self.origin])
        if self.id is None or self.own_points:
            return usual_point(document.id)
        chosen: int | str | None = registry.hook.diptych_point_id(document=document) if registry else None
        return hashed_point(identity or document.id) if chosen is None else chosen

    def id_filter(self, ids: Sequence[str]) -> models.Filter:
        """Qdrant's condition for the points of these documents."""
        from qdrant_client import models

        path = self.id or f"{OWN}.id"
        values = [self._payload_id(identifier) for identifier in ids]
        kinds: tuple[list[Any], ...] = (
            [v for v in values if isinstance(v, str)],
            [v for v in values if isinstance(v, int)],
        )
        conditions: list[Any] = [
            models.FieldCondition(key=path, match=models.MatchAny(any=group)) for group in kinds if group
        ]
        if self.id is None:
            points = [point for point in map(own_point, ids) if point is not None]
            conditions.append(models.HasIdCondition(has_id=points))
        return models.Filter(should=conditions)

    def _payload_id(self, identifier: str) -> int | str:
        """The id in the type that the collection's payloads use."""
        point = own_point(identifier) if self.integer_ids else None
        return point if isinstance(point, int) else identifier

    def _adopted(self, document: Document, existing: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        metadata = self._with_title(document)
        prefix = f"{self.metadata}." if self.metadata else ""
        keys = (key for modality, key in self.media.items() if modality in document.media)
        paths = [path for path in (self.text, self.title, self.id, *keys) if path]
        inner = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
        reserved = inner if self.metadata else [OWN, *inner, *(NODE_KEYS if self.origin == LLAMA_INDEX else ())]
        for path in reserved:  # the metadata must not overwrite text, title, id, or what names the media
            if has(metadata, path):
                raise _reserved(document, path, reserved)
        named = {"id": document.id} if self.id is None and own_point(document.id) is None else {}
        internal = {OWN: {**named, **stored}} if named or stored else {}
        if self.origin == LLAMA_INDEX:
            point = usual_point(document.id)
            return {**node_payload(document.id, point, document.text, metadata, existing), **internal}
        payload: dict[str, Any] = put(existing, self.metadata, metadata) if self.metadata else {**metadata}
        if self.id:
            payload = put(payload, self.id, self._payload_id(document.id))
        if self.title:
            payload = without(payload, self.title)
        if self.title and document.title:
            payload = put(payload, self.title, document.title)
        return {**put(payload, self.text, document.text), **internal}

    def _with_title(self, document: Document) -> dict[str, Any]:
        """The metadata, with the title added where the layout has no other place for it."""
        metadata = dict(document.metadata)
        derived = self.origin == LLAMA_INDEX
        if not document.title or (self.title and not derived):
            return metadata
        if derived and is_header(document.title, metadata):
            return metadata
        if "title" in metadata:
            raise _reserved(document, "title", ("title",))
        return {"title": document.title, **metadata}


NATIVE = Layout()


def require_unreserved(document: Document) -> None:
    """Raise DocumentError where the metadata uses a key that diptych's own layout needs."""
    for key in RESERVED:
        if key in document.metadata:
            raise _reserved(document, key, RESERVED)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


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
    """A UUID derived from a document's id alone, in diptych's name space or a framework's.

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


def parsed(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with `_node_content` parsed into text and header, and without LlamaIndex's other internal keys."""
    fields = {key: value for key, value in payload.items() if key not in _OTHER_KEYS}
    node = node_of(payload)
    if node:
        resource = node.get("text_resource")  # `Node` has its text there, `TextNode` as a key of its own
        text = resource.get("text") if isinstance(resource, Mapping) else node.get("text")
        fields[NODE] = {"text": _as_text(text), "header": header(node)}
    return fields


def node_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The node in a payload; empty when there is none that can be read."""
    raw = payload.get(NODE)
    try:
        node = json.loads(raw) if isinstance(raw, str) else raw
    except json.JSONDecodeError:
        return {}
    return node if isinstance(node, dict) else {}


def header(node: Mapping[str, Any]) -> str:
    """The lines that LlamaIndex encodes before the text."""
    excluded = node.get("excluded_embed_metadata_keys") or ()
    line = node.get("metadata_template") or "{key}: {value}"
    separator = node.get("metadata_separator", node.get("metadata_seperator", "\n"))  # older releases misspell it
    metadata = node.get("metadata") or {}
    # Not `str.format`: a template from a payload can access nothing but its values.
    lines = [
        re.sub(r"\{(key|value)\}", lambda match, pair=pair: str(pair[match[1] == "value"]), line)
        for pair in metadata.items()
        if pair[0] not in excluded
    ]
    return str(separator).join(lines)


def is_header(title: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a title only repeats metadata, as the title of a document read from such a collection does."""
    return set(title.splitlines()) <= set(header({"metadata": metadata}).splitlines())


def node_payload(
    identifier: str, point: object, text: str, metadata: Mapping[str, Any], existing: Mapping[str, Any]
) -> dict[str, Any]:
    """LlamaIndex's payload for a document: the node in `existing` with this text and metadata, or a new node."""
    source: dict[str, Any] = {"node_id": identifier, "node_type": "4", "metadata": {}, "hash": None}
    new: dict[str, Any] = {
        "id_": str(point),
        "embedding": None,
        "excluded_embed_metadata_keys": [],
        "excluded_llm_metadata_keys": [],
        "relationships": {_SOURCE: {**source, "class_name": "RelatedNodeInfo"}},
        "metadata_template": "{key}: {value}",
        "metadata_separator": "\n",
        "mimetype": "text/plain",
        "text_template": "{metadata_str}\n\n{content}",
        "class_name": "TextNode",
    }
    node = {**(node_of(existing) or new), "metadata": dict(metadata)}
    if isinstance(node.get("text_resource"), Mapping):
        node["text_resource"] = {**node["text_resource"], "text": text}
    else:
        node["text"] = text
    references = {key: existing.get(key, identifier) for key in _REFERENCES}
    kind = existing.get("_node_type", "TextNode")
    return {**metadata, NODE: json.dumps(node, ensure_ascii=False), "_node_type": kind, **references}


def payload_of(document: Document, store: MediaStore | None) -> dict[str, Any]:
    """The payload fields of a document's media; empty for a document without media, and without a store."""
    if not document.media or store is None:
        return {}
    textless = {} if document.text.strip() or document.title.strip() else {TEXTLESS: True}
    media = {name: store.to_payload(found) for name, found in document.media.items() if isinstance(found, Media)}
    return {MEDIA: media, **textless}


def without_media(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload without its media, for a document that may have lost them."""
    found = payload.get(OWN)
    if not isinstance(found, Mapping) or not {MEDIA, TEXTLESS} & found.keys():
        return payload
    kept = {key: value for key, value in found.items() if key not in (MEDIA, TEXTLESS)}
    rest = {key: value for key, value in payload.items() if key != OWN}
    return {**rest, **({OWN: kept} if kept else {})}


def with_keys(
    payload: Mapping[str, Any], document: Document, keys: Mapping[str, str], existing: Mapping[str, Any]
) -> dict[str, Any]:
    """The payload with the sources of the document's media where another program looks for them.

    Args:
        keys: by modality, that program's payload key.
        existing: the payload so far; the keys of media that the document no longer has are removed.
    """
    had, named = media_of(existing), dict(payload)
    for modality, key in keys.items():
        media = document.media.get(modality)
        if isinstance(media, Media) and media.source:
            named = put(named, key, media.source)
        elif media is not None or modality in had:
            named = without(named, key)
    return named


def media_of(payload: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a payload, even one that another program wrote, holds of media, by modality."""
    internal = (payload or {}).get(OWN)
    media = internal.get(MEDIA) if isinstance(internal, Mapping) else None
    return media if isinstance(media, Mapping) else {}


def media_in(payload: Mapping[str, Any] | None) -> dict[str, Media]:
    """The media that a payload refers to; their files are not read."""
    return {name: from_payload(name, raw) for name, raw in media_of(payload).items()}


def stored_thumbnail(payload: Mapping[str, Any] | None) -> bytes | None:
    """The small JPEG or PNG in a payload, of its picture rather than its clip; None where there is none."""
    items = picture_items(payload).values()
    return next(filter(None, (thumbnail_in(item) for item in items)), None)


def picture_items(payload: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """What a payload says of media that have thumbnails, by modality."""
    media = media_of(payload)
    return {name: item for name in PICTURED if isinstance(item := media.get(name), Mapping)}


def thumbnail_in(item: Mapping[str, Any]) -> bytes | None:
    """The thumbnail of one item of a payload; None where there is none, or something that is no small JPEG or PNG."""
    encoded = item.get(THUMBNAIL)
    if not isinstance(encoded, str) or len(encoded) > LARGEST_THUMBNAIL:
        return None
    try:
        picture = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return picture if format_of(picture) in ("JPEG", "PNG") else None


def letters_in(payload: Mapping[str, Any] | None) -> int:
    """Number of characters of the bytes and thumbnails in a payload, even one that another program wrote."""
    items = [item for item in media_of(payload).values() if isinstance(item, Mapping)]
    return sum(len(item[key]) for item in items for key in _ITEM["content"] if isinstance(item.get(key), str))


def to_rows(media: Mapping[str, RawMedia]) -> list[dict[str, Any]]:
    """Media that have been read, as JSON values; `from_rows` reads them."""
    return [to_json(found) for found in media.values() if isinstance(found, Media)]


def from_rows(rows: Iterable[object]) -> dict[str, Media]:
    """The media by modality that `to_rows` wrote."""
    return {found.modality: found for found in map(from_json, rows)}


def has_media(modality: str) -> models.Filter:
    """Qdrant's filter for the documents with media of a modality."""
    from qdrant_client import models

    empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=f"{OWN}.{MEDIA}.{modality}"))
    return models.Filter(must_not=[empty])


def is_textless() -> models.FieldCondition:
    """Qdrant's condition for documents with media and no text."""
    from qdrant_client import models

    return models.FieldCondition(key=f"{OWN}.{TEXTLESS}", match=models.MatchValue(value=True))
