"""Small pictures of documents, for people who look at hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diptych.collection.documents import payloads
from diptych.errors import DiptychError, MediaError
from diptych.handle.collection_handle import CollectionHandle
from diptych.media import MediaStore, pictures
from diptych.media.read import is_url
from diptych.metadata.payloads import THUMBNAIL, picture_items, thumbnail_in


def thumbnails(handle: CollectionHandle, ids: Sequence[str], *, tenant: str | None = None) -> dict[str, bytes]:
    """Pictures of at most 96 x 96 pixels, JPEG or PNG, by document id.

    Each is the stored thumbnail, or is made from the stored bytes or from the file below `media.root`. A document
    without a picture, or whose file is gone or cannot be read, is left out; without Pillow, those without a stored
    thumbnail too. No URL is fetched.

    Raises:
        CollectionError, TenantError, PopulateError: as `documents.get`.
    """
    found = {name: _thumbnails(handle.media, stored) for name, stored in payloads(handle, ids, tenant=tenant).items()}
    first = {identifier: next(pictures, None) for identifier, pictures in found.items()}
    return {identifier: picture for identifier, picture in first.items() if picture is not None}


def thumbnail_of(store: MediaStore | None, modality: str, item: Mapping[str, Any]) -> bytes:
    """The thumbnail of a picture or clip: stored, or made of its stored bytes or its file. No URL is fetched.

    Args:
        store: reads the file; None where there is none.
        modality: the item's.
        item: what a payload says of it.

    Raises:
        MediaError, CollectionError: there is none on this machine, or it cannot be read.
    """
    if item.get(THUMBNAIL) is not None:
        if stored := thumbnail_in(item):
            return stored
        raise MediaError("the stored thumbnail is not a picture", where=modality, do="populate the document again")
    media = MediaStore.from_payload(modality, item)
    if store is None or (media.data is None and is_url(media.source)):
        do = "media: {store: thumbnail} keeps small pictures in the collection"
        raise MediaError("the picture is not on this machine", where=str(media), do=do)
    pixels: Any = store.content(media)
    return pictures.thumbnail(pixels if modality == "image" else pixels[0], str(media))


def _thumbnails(store: MediaStore, payload: Mapping[str, Any]) -> Iterator[bytes]:
    for modality, item in picture_items(payload).items():
        try:
            yield thumbnail_of(store, modality, item)
        except DiptychError:
            continue
