"""Small pictures of documents, for people who look at hits."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.collection.documents import payloads
from diptych.errors import DiptychError
from diptych.handle.collection_handle import CollectionHandle
from diptych.media import Media, MediaStore, pictures
from diptych.media.read import is_url
from diptych.metadata.media_payloads import MEDIA, OWN

PICTURED = ("image", "video")  # what can be shown, the first that a document has; a clip by its first frame
FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # how JPEG and PNG begin


def thumbnails(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> dict[str, bytes]:
    """Pictures of at most 96 x 96 pixels, JPEG or PNG, by document id.

    Each is the stored thumbnail, or is made from the stored bytes or from the file below `media.root`. A document
    without a picture, or whose file is gone or cannot be read, is left out; without Pillow, those without a stored
    thumbnail too. No URL is fetched.

    Raises:
        CollectionError, TenantError, PopulateError: as `documents.get`.
    """
    found: dict[str, bytes] = {}
    for identifier, payload in payloads(handle, ids, tenant=tenant).items():
        own = payload.get(OWN)
        media = own.get(MEDIA) if isinstance(own, Mapping) else None
        if isinstance(media, Mapping):
            small = (_thumbnail(handle.media, modality, media[modality]) for modality in PICTURED if modality in media)
            if picture := next(filter(None, small), None):
                found[identifier] = picture
    return found


def _thumbnail(store: MediaStore, modality: str, raw: Any) -> bytes | None:
    try:
        stored = raw.get("thumbnail") if isinstance(raw, Mapping) else None
        if isinstance(stored, str):
            small = base64.b64decode(stored, validate=True)
            return small if small.startswith(FORMATS) else None
        media: Media = store.from_payload(modality, raw)
        if media.data is None and is_url(media.source):
            return None
        pixels: Any = store.content(media)
        return pictures.thumbnail(pixels if modality == "image" else pixels[0], str(media))
    except (DiptychError, binascii.Error):
        return None
