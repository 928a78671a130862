"""`Media` and `Sound`: a picture, sound or clip of a document or query, and its JSON forms; canaries of each kind."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator

from diptych.errors import CollectionError, MediaError, brief

PILLOW_LIMIT = 89_478_485  # pixels; beyond it Pillow itself warns of a decompression bomb
_HOST = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

Modality: TypeAlias = Literal["image", "sound", "video"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
Readable: TypeAlias = Literal["text", Modality]  # what an encoder may read of a document
Bytes: TypeAlias = bytes  # `Media.bytes` hides the builtin within the class
_DIGEST = re.compile(r"[0-9a-f]{32}")
_KEYS = "digest, bytes, and source, thumbnail or data where there are any"


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Sound of one channel.

    Args:
        samples: float32 `[n]` in [-1, 1].
        rate: samples per second.
    """

    samples: NDArray[np.float32]
    rate: int


@dataclass(frozen=True, slots=True)
class Media:
    """One item of a modality, by reference or with its bytes. Items of one modality with equal bytes are equal.

    Args:
        modality: `image`, `sound` or `video`.
        source: path relative to `media.root`, or URL; empty where the item was given as bytes or as an array.
        digest: the first 32 hexadecimal digits of the SHA-256 of the bytes.
        bytes: their number.
        data: the bytes themselves, where the item was given as bytes or as an array (then in NumPy's .npy format).
    """

    modality: Modality
    source: str = field(compare=False)
    digest: str
    bytes: int = field(compare=False)
    data: Bytes | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Names the content in caches: `image:DIGEST`."""
        return f"{self.modality}:{self.digest}"

    def __str__(self) -> str:
        return f"{self.modality} {self.source!r}" if self.source else f"{self.modality} of {self.bytes:,} bytes"


Content: TypeAlias = NDArray[Any] | Sound
"""What an encoder is given: arrays of its own, in C order.

- image: uint8 `[height, width, 3]`, RGB
- video: uint8 `[frames, height, width, 3]`, RGB
- sound: `Sound`
"""
RawMedia: TypeAlias = str | os.PathLike[str] | bytes | NDArray[Any] | Sound | Media
"""What users give: a path, URL or data: URI, the bytes of a file, an array, a `Sound`, or `Media`."""


def digest_of(data: bytes) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of the bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


def checked_modality(name: object) -> Modality:
    """The name as a modality.

    Raises:
        MediaError: there is no such modality.
    """
    if name not in MODALITIES:
        raise MediaError("unknown modality", got=brief(name), expected=", ".join(MODALITIES))
    return name


def to_json(media: Media) -> dict[str, Any]:
    """The item as JSON values, with its bytes in base64 where it holds them; `from_json` reads it."""
    return {"modality": media.modality, **reference(media, with_data=media.data is not None)}


def from_json(raw: object) -> Media:
    """The item that `to_json` wrote as `raw`.

    Raises:
        MediaError: it is not of that form, or the bytes do not have the digest.
    """
    if not isinstance(raw, Mapping):
        raise MediaError("this is not media in JSON form", got=brief(raw), expected=f"modality, {_KEYS}")
    modality = checked_modality(raw.get("modality"))
    try:
        return _parsed(modality, raw)
    except ValueError as error:
        raise MediaError("this is not media in JSON form", where=modality, got=str(error), expected=_KEYS) from error


def from_payload(modality: str, raw: object) -> Media:
    """The item of a point's payload as `MediaStore.to_payload` wrote it. Opens no file.

    Args:
        modality: the item's.
        raw: the value at `_diptych.media.MODALITY`.

    Raises:
        CollectionError: it is not of that form, or the bytes do not have the digest.
    """
    where, do = f"_diptych.media.{modality}", "populate again the documents whose payloads were changed"
    try:
        if modality not in MODALITIES or not isinstance(raw, Mapping):
            raise ValueError(brief(raw) if modality in MODALITIES else f"modality {modality!r}")
        return _parsed(modality, raw)
    except ValueError as error:
        what = "a point's payload holds media that diptych did not write"
        raise CollectionError(what, where=where, got=str(error), expected=_KEYS, do=do) from error


def reference(media: Media, *, with_data: bool) -> dict[str, Any]:
    """Digest, length, the source if there is one, and the bytes in base64 if the item is to be stored with them."""
    found: dict[str, Any] = {"digest": media.digest, "bytes": media.bytes}
    if media.source:
        found["source"] = media.source
    if with_data and media.data is not None:
        found["data"] = base64.b64encode(media.data).decode()
    return found


def _parsed(modality: Modality, raw: Mapping[Any, Any]) -> Media:
    """The item of a mapping; raises ValueError with the faulty part."""
    digest, length, source, encoded = (raw.get(key) for key in ("digest", "bytes", "source", "data"))
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"digest {brief(digest)}")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise ValueError(f"bytes {brief(length)}")
    if source is not None and not isinstance(source, str):
        raise ValueError(f"source {brief(source)}")
    thumbnail = raw.get("thumbnail")
    if thumbnail is not None and not isinstance(thumbnail, str):
        raise ValueError(f"thumbnail {brief(thumbnail)}")
    try:
        data = None if encoded is None else base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data {brief(encoded)}, which is not base64: {error}") from error
    if data is not None and (len(data) != length or digest_of(data) != digest):
        raise ValueError(f"{len(data):,} bytes of data that do not have the digest {digest}")
    return Media(modality, source or "", digest, length, data)


class MediaConfig(BaseModel):
    """Pictures, sounds and clips of documents and queries."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    root: str = Field(".", description="Folder of media, relative to the config file; paths outside it are rejected.")
    store: Literal["reference", "thumbnail", "bytes"] = Field(
        "reference", description="What payloads hold: digest and path; also a thumbnail; or also all bytes."
    )
    hosts: list[str] = Field([], description="Hosts allowed in https URLs, as host or host:port; empty allows none.")
    max_bytes: ByteSize = Field(ByteSize(50_000_000), gt=0, description="Maximum file or download size, such as 50MB.")
    max_pixels: Annotated[int, Field(ge=1, le=PILLOW_LIMIT)] = Field(
        40_000_000, description="Maximum pixels of an image or frame; all frames of a clip may have five times as many."
    )
    max_seconds: Annotated[float, Field(gt=0)] = Field(3600, description="Maximum seconds of a sound.")
    max_frames: Annotated[int, Field(ge=1)] = Field(2000, description="Maximum frames of a clip.")

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: list[str]) -> list[str]:
        """Lower-case names without scheme or path."""
        for host in hosts:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f"a host such as images.example.com or images.example.com:8443, got {host!r}")
        return [host.lower() for host in hosts]


# Canaries of media, made by formulas. They belong to edition 2 of `diptych.slots.canaries`, and like its texts
# they never change. Sizes, aspect ratios and lengths differ, so that another resizing, cropping or sampling changes at
# least one vector.


def media_canaries(modality: str) -> tuple[Content, ...]:
    """The canaries of a modality, in the form in which encoders get media."""
    return _MAKERS[modality]()


def _images() -> tuple[Content, ...]:
    rows, columns = np.mgrid[0:48, 0:64]
    gradient = np.stack([rows * 5, columns * 3, 255 - rows * 2 - columns], axis=-1)
    rows, columns = np.mgrid[0:57, 0:33]
    checks = np.where(((rows // 7 + columns // 5) % 2 == 0)[..., None], [220, 40, 30], [20, 90, 200])
    rows, columns = np.mgrid[0:224, 0:224]
    inside = (rows - 100) ** 2 + (columns - 130) ** 2 < 3600
    disc = np.where(inside[..., None], [250, 210, 60], [255, 255, 255])
    return tuple(
        picture.astype(np.uint8) for picture in (gradient, checks, disc, _noise(96 * 80 * 3, 256).reshape(96, 80, 3))
    )


def _sounds() -> tuple[Content, ...]:
    def sweep(rate: int, seconds: float) -> NDArray[np.float32]:
        at = np.arange(int(rate * seconds)) / rate
        return (0.6 * np.sin(2 * np.pi * (110 * at + 220 * at * at))).astype(np.float32)

    noise = (_noise(8000, 2001) / 1000 - 1).astype(np.float32) * np.float32(0.2)
    return Sound(sweep(16_000, 1.0), 16_000), Sound(sweep(44_100, 2.5), 44_100), Sound(noise, 8_000)


def _videos() -> tuple[Content, ...]:
    frames = np.full((12, 48, 64, 3), 255, np.uint8)
    for at, frame in enumerate(frames):
        frame[10 + at : 26 + at, 3 * at : 3 * at + 16] = (200, 30, 60)
    return frames, np.ascontiguousarray(frames[::-3])


def _noise(size: int, below: int) -> NDArray[np.int64]:
    """Pseudo-random integers of a linear congruential generator, the same on every machine and release of NumPy."""
    found, state = np.empty(size, np.int64), 12345
    for at in range(size):
        state = (1103515245 * state + 12345) % 2**31
        found[at] = (state >> 8) % below
    return found


_MAKERS: Mapping[str, Callable[[], tuple[Content, ...]]] = {
    "image": _images,
    "sound": _sounds,
    "video": _videos,
}
