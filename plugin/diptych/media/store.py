"""`MediaStore`: takes the media of documents and queries, and decodes them for encoders."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import MediaError, brief
from diptych.media import decode, read
from diptych.media.values import (
    Content,
    Media,
    MediaConfig,
    Modality,
    RawMedia,
    Sound,
    checked_modality,
    digest_of,
    reference,
)

RECENT = 64_000_000  # bytes just read that are kept, so that taking and decoding a file read it once


class MediaStore:
    """Reads, checks and decodes media within the limits of a config. Threads may share it.

    Args:
        config: the section `media` of the config.
        base: the folder that `config.root` starts from: the config file's.
    """

    def __init__(self, config: MediaConfig, base: Path) -> None:
        self.config, self.base, self.root = config, base, base / Path(config.root).expanduser()
        self._recent = _Recent(RECENT)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies in other processes begin without the bytes just read."""
        return MediaStore, (self.config, self.base)

    def take(self, modality: str, raw: RawMedia) -> Media:
        """Read what a user gave and check its size and header; nothing is decoded.

        Args:
            modality: `image`, `sound` or `video`.
            raw: a path, an https URL of an allowed host, a data: URI, bytes, an array, a `Sound`, or `Media`.

        Raises:
            MediaError: it cannot be read, is not allowed, too large, or not of this modality.
        """
        known = checked_modality(modality)
        if isinstance(raw, Media):  # taken before; bytes that come with it are checked again
            if raw.modality != known:
                with _about(raw):
                    raise MediaError("the media have another modality", where=str(raw), expected=known)
            if raw.data is None:
                return raw
            found = self.take(known, raw.data)
            return Media(known, raw.source, found.digest, found.bytes, raw.data)
        source, data = self._read(known, raw)
        media = Media(known, source, digest_of(data), len(data), None if source else data)
        with _about(media):
            decode.DECODERS[known][0](data, self.config, str(media))
        self._recent.put(media.digest, data)
        return media

    def content(self, media: Media) -> Content:
        """Decode an item for an encoder: an array or a `Sound`, as `Content` says.

        Raises:
            MediaError: its bytes are gone, have changed since it was taken, or cannot be decoded.
        """
        with _about(media):
            decoded = decode.DECODERS[checked_modality(media.modality)][1]
            return decoded(self._bytes(media), self.config, str(media))

    def to_payload(self, media: Media) -> dict[str, Any]:
        """What a point's payload holds of the item, by `media.store`: at least its digest, length and source.

        Raises:
            MediaError: a thumbnail or the bytes are wanted, and the item cannot be read or decoded.
        """
        found = reference(media, with_data=False)
        if self.config.store == "bytes":
            found["data"] = base64.b64encode(self._bytes(media)).decode()
        elif self.config.store == "thumbnail" and media.modality in ("image", "video"):
            small = decode.thumbnail(self.content(media), str(media))
            found["thumbnail"] = base64.b64encode(small).decode()
        return found

    def _read(self, modality: Modality, raw: object) -> tuple[str, bytes]:
        """Source, empty where there is none, and bytes."""
        most = int(self.config.max_bytes)
        if isinstance(raw, str) and read.is_data_uri(raw):
            return "", read.read_data_uri(raw, most)
        if isinstance(raw, str) and read.is_url(raw):
            return raw, read.read_url(raw, self.config.hosts, most)
        if isinstance(raw, str | os.PathLike):
            return read.read_file(self.root, raw, most)
        return "", read.checked_length(_given_bytes(modality, raw, most), modality, most)

    def _bytes(self, media: Media) -> bytes:
        """The bytes of an item, those with its digest."""
        data = self._recent.get(media.digest) if media.data is None else media.data
        if data is None and not media.source:
            what, do = "the media were given as bytes, which the collection does not hold", "media.store: bytes"
            raise MediaError(what, where=str(media), do=f"give them again; {do} stores them")
        if data is None:
            _, data = self._read(media.modality, media.source)
            self._recent.put(digest_of(data), data)
        if digest_of(data) != media.digest:
            do = "populate again to index what is there now"
            raise MediaError("the media have changed since they were read", where=str(media), do=do)
        return data


def _given_bytes(modality: Modality, raw: object, max_bytes: int) -> bytes:
    """Bytes, or an array or sound as bytes."""
    if isinstance(raw, bytes | bytearray | memoryview):
        return bytes(raw)
    if isinstance(raw, Sound) and modality == "sound":
        return decode.wave_bytes(raw, modality)
    if isinstance(raw, np.ndarray) and modality != "sound":
        if raw.dtype.hasobject:
            raise MediaError(
                "the array does not hold numbers", where=modality, got="Python objects", expected="numbers"
            )
        if raw.nbytes > max_bytes:
            raise read.too_large(modality, f"{raw.dtype} {list(raw.shape)}, {raw.nbytes:,}", max_bytes)
        file = io.BytesIO()
        np.save(file, raw, allow_pickle=False)
        return file.getvalue()
    if isinstance(raw, dict) and "digest" in raw:
        what, do = "the media come from a collection that does not store their bytes", "give the bytes or the file"
        raise MediaError(what, where=modality, got=f"digest {brief(raw['digest'])}", do=do)
    expected = "a path, https URL, data: URI, bytes, or " + ("Sound" if modality == "sound" else "an array")
    do = "an array does not say its rate: give Sound(samples, rate)" if isinstance(raw, np.ndarray) else ""
    raise MediaError(f"{modality} cannot be given as this type", got=type(raw).__name__, expected=expected, do=do)


@contextmanager
def _about(media: Media) -> Iterator[None]:
    """Within the block, errors get the item as their `media`."""
    try:
        yield
    except MediaError as error:
        error.media = media
        raise


class _Recent:
    """Bytes by digest, the latest used ones, up to a number of bytes in all."""

    def __init__(self, size: int) -> None:
        self._size, self._held = size, 0
        self._lock = threading.Lock()
        self._bytes: OrderedDict[str, bytes] = OrderedDict()

    def get(self, digest: str) -> bytes | None:
        with self._lock:
            if digest in self._bytes:
                self._bytes.move_to_end(digest)
            return self._bytes.get(digest)

    def put(self, digest: str, data: bytes) -> None:
        with self._lock:
            if digest in self._bytes or len(data) > self._size:
                return
            self._bytes[digest] = data
            self._held += len(data)
            while self._held > self._size:
                self._held -= len(self._bytes.popitem(last=False)[1])
