"""A document's media in its payload, next to its id: as references, with a thumbnail or the bytes if configured.

    "_diptych": {"id": "lame", ..., "media": {"image": {"digest": "...", "bytes": 812, "source": "lame.png"}}}

A document that has media and no text says `"textless": true` there, so that it is not expected to have vectors of text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from diptych.media import MODALITIES, Media, MediaStore, RawMedia, from_json, to_json
from diptych.media.read import format_of
from diptych.metadata import payload_paths
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models

OWN, MEDIA, TEXTLESS = "_diptych", "media", "textless"
THUMBNAIL = "thumbnail"
LARGEST_THUMBNAIL = 1_000_000  # characters of base64; those that diptych makes have a hundredth of it
PICTURED = ("image", "video")  # the modalities that have thumbnails; that of a clip is its first frame
_REFERENCE, _CONTENT = ("digest", "bytes", "source"), ("data", THUMBNAIL)  # the keys of an item


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
            named = payload_paths.put(named, key, media.source)
        elif media is not None or modality in had:
            named = payload_paths.without(named, key)
    return named


def media_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a payload holds of media, by modality."""
    internal = payload.get(OWN)
    media = internal.get(MEDIA) if isinstance(internal, Mapping) else None
    return media if isinstance(media, Mapping) else {}


def media_in(internal: Mapping[str, Any]) -> dict[str, Media]:
    """The media that a payload refers to; their files are not read."""
    return {name: MediaStore.from_payload(name, raw) for name, raw in (internal.get(MEDIA) or {}).items()}


def reference_fields() -> list[str]:
    """The payload keys from which `media_in` reads references."""
    return _fields(_REFERENCE)


def content_fields() -> list[str]:
    """The payload keys that hold the bytes and thumbnails of media, which searches do not fetch."""
    return _fields(_CONTENT)


def thumbnail_fields() -> list[str]:
    """The payload keys from which `stored_thumbnail` reads."""
    return _fields([THUMBNAIL], PICTURED)


def stored_thumbnail(payload: Mapping[str, Any] | None) -> bytes | None:
    """The small JPEG or PNG in a payload, of its picture rather than its clip; None where there is none."""
    items = picture_items(payload).values()
    return next(filter(None, (thumbnail_in(item) for item in items)), None)


def picture_items(payload: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """What a payload, even one that another program wrote, says of media that have thumbnails, by modality."""
    media = media_of(payload or {})
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


def _fields(keys: Iterable[str], modalities: Iterable[str] = MODALITIES) -> list[str]:
    return [f"{OWN}.{MEDIA}.{modality}.{key}" for modality in modalities for key in keys]


def letters_in(payload: Mapping[str, Any] | None) -> int:
    """Number of characters of the bytes and thumbnails in a payload, even one that another program wrote."""
    items = [item for item in media_of(payload or {}).values() if isinstance(item, Mapping)]
    return sum(len(item[key]) for item in items for key in _CONTENT if isinstance(item.get(key), str))


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
