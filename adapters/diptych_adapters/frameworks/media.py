"""The forms in which frameworks know media: MIME types, paths, URLs and data: URIs. `hit_details` has references."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, NamedTuple

from diptych.media import Media, RawMedia
from diptych.media.read import format_of, is_url
from diptych_adapters.frameworks.sources import Opened

MEDIA = "media"
_MIME_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "FLAC": "audio/flac",
    "Ogg": "audio/ogg",
    "MP3": "audio/mpeg",
    "AIFF": "audio/aiff",
    "WAV": "audio/wav",
    "MP4": "video/mp4",
    "WebM": "video/webm",
}


class Reads(NamedTuple):
    """The modalities of media that a collection's slots read, and the folder that paths of media start from."""

    modalities: frozenset[str] = frozenset()
    root: Path = Path()

    @classmethod
    def of(cls, collection: Opened) -> Reads:
        """What the slots of an open collection read."""
        handle = collection.handle
        modalities = {slot.reading.modality for slot in handle.slots.values()} - {"text"}
        return cls(frozenset(modalities), handle.media.root)


NO_MEDIA = Reads()


def mime_type(data: bytes) -> str:
    """The MIME type of a file's bytes."""
    return _MIME_TYPES.get(format_of(data), "application/octet-stream")


def as_text(media: object) -> str:
    """The path, URL or data: URI of media that a collection returns; empty if it has none of them."""
    assert isinstance(media, Media), "a collection returns media that were read"
    if media.source or media.data is None:
        return media.source
    return f"data:{mime_type(media.data)};base64,{base64.b64encode(media.data).decode()}"


def resource_fields(media: RawMedia, root: Path) -> dict[str, Any]:
    """The `path`, `url` or, without a source, `data` of media; empty if there is none of them."""
    if isinstance(media, bytes):
        return {"data": media}
    if isinstance(media, Media):
        data = {} if media.data is None else {"data": media.data}
        return resource_fields(media.source, root) if media.source else data
    text = str(media)
    return {"url": text} if is_url(text) else {"path": str(root / text)}
