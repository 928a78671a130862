"""`MediaStore`: takes the media of documents and queries, and decodes them for encoders."""

from __future__ import annotations

import base64
import http.client
import io
import os
import threading
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from diptych.errors import MediaError, brief
from diptych.media import pictures, read, sounds
from diptych.media.read import checked_length, reason, too_large
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
from diptych.runtime.sockets import TimedReader

SECONDS, _CONNECT_SECONDS = 60.0, 10.0  # for a whole download, and to connect
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCK = 1 << 16

RECENT = 64_000_000  # bytes just read that are kept, so that taking and decoding a file read it once
_Check: TypeAlias = Callable[[bytes, MediaConfig, str], None]
_Decode: TypeAlias = Callable[[bytes, MediaConfig, str], Content]
_DECODERS: Mapping[Modality, tuple[_Check, _Decode]] = {
    "image": (pictures.check_image, pictures.decode_image),
    "video": (pictures.check_video, pictures.decode_video),
    "sound": (sounds.check_sound, sounds.decode_sound),
}


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
        if isinstance(raw, Media):
            return self._known(known, raw)
        source, data = self._read(known, raw)
        media = Media(known, source, digest_of(data), len(data), None if source else data)
        with _about(media):
            _DECODERS[known][0](data, self.config, str(media))
        self._recent.put(media.digest, data)
        return media

    def content(self, media: Media) -> Content:
        """Decode an item for an encoder: an array or a `Sound`, as `Content` says.

        Raises:
            MediaError: its bytes are gone, have changed since it was taken, or cannot be decoded.
        """
        with _about(media):
            decode = _DECODERS[checked_modality(media.modality)][1]
            return decode(self._bytes(media), self.config, str(media))

    def to_payload(self, media: Media) -> dict[str, Any]:
        """What a point's payload holds of the item, by `media.store`: at least its digest, length and source.

        Raises:
            MediaError: a thumbnail or the bytes are wanted, and the item cannot be read or decoded.
        """
        found = reference(media, with_data=False)
        if self.config.store == "bytes":
            found["data"] = base64.b64encode(self._bytes(media)).decode()
        elif self.config.store == "thumbnail" and media.modality in ("image", "video"):
            pixels: Any = self.content(media)
            small = pictures.thumbnail(pixels if media.modality == "image" else pixels[0], str(media))
            found["thumbnail"] = base64.b64encode(small).decode()
        return found

    def _known(self, modality: Modality, media: Media) -> Media:
        """Media that were taken before; bytes that come with them are checked again."""
        if media.modality != modality:
            with _about(media):
                raise MediaError("the media have another modality", where=str(media), expected=modality)
        if media.data is None:
            return media
        found = self.take(modality, media.data)
        return Media(modality, media.source, found.digest, found.bytes, media.data)

    def _read(self, modality: Modality, raw: object) -> tuple[str, bytes]:
        """Source, empty where there is none, and bytes."""
        most = int(self.config.max_bytes)
        if isinstance(raw, str) and read.is_data_uri(raw):
            return "", read.read_data_uri(raw, most)
        if isinstance(raw, str) and read.is_url(raw):
            return raw, read_url(raw, self.config.hosts, most)
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
        return sounds.wave_bytes(raw, modality)
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


def read_url(url: str, hosts: Sequence[str], max_bytes: int) -> bytes:
    """The bytes at the URL.

    Args:
        url: https; http for a listed address of this machine alone.
        hosts: those that may be asked, also by redirects: `images.example.com`, `images.example.com:8443`.
        max_bytes: the most that is read.

    Raises:
        MediaError: the host is not listed, the server fails or takes too long, or the answer is too large.
    """
    check_url(url, hosts)
    deadline = time.monotonic() + SECONDS

    class OnlyListed(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            check_url(newurl, hosts, redirected_from=url)
            fp.close()  # else urllib would read its body, of any size
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            reader = TimedReader(sock, self.fp)
            reader.allow(deadline - time.monotonic())
            self.fp = io.BufferedReader(reader)

    class Plain(http.client.HTTPConnection):
        response_class = Response

    class Encrypted(http.client.HTTPSConnection):
        response_class = Response

    class Timed(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Plain, req)

        def https_open(self, req: Any) -> Any:
            return self.do_open(Encrypted, req)

    request = urllib.request.Request(url, headers={"user-agent": "diptych", "accept-encoding": "identity"})
    try:
        with urllib.request.build_opener(OnlyListed, Timed).open(request, timeout=_CONNECT_SECONDS) as response:
            return checked_length(_received(response, url, max_bytes), url, max_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        raise MediaError("the media server refused the request", where=url, got=f"status {error.code}") from error
    except TimeoutError as error:
        raise MediaError("the media server is too slow", where=url, expected=f"all bytes in {SECONDS:.0f} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MediaError(f"the media could not be fetched: {reason(error)}", where=url) from error


def _received(response: Any, url: str, max_bytes: int) -> bytes:
    """The body, read piece by piece within the limit of size."""
    stated = str(response.headers.get("content-length") or "")
    if stated.isdigit() and int(stated) > max_bytes:
        raise too_large(url, f"{int(stated):,}", max_bytes)
    received = bytearray()
    while piece := response.read1(_BLOCK):
        received += piece
        if len(received) > max_bytes:
            raise too_large(url, f"more than {max_bytes:,}", max_bytes)
    if stated.isdigit() and len(received) < int(stated):
        got = f"{len(received):,} of {int(stated):,} bytes"
        raise MediaError("the media server closed the connection early", where=url, got=got)
    return bytes(received)


def check_url(url: str, hosts: Sequence[str], *, redirected_from: str = "") -> None:
    """Raise MediaError unless the URL is plain https and its host is listed.

    Args:
        url: to be fetched.
        hosts: those that may be asked.
        redirected_from: the URL whose server sent it, if one did.
    """
    what = (
        "this redirect of a media URL may not be followed" if redirected_from else "this media URL may not be fetched"
    )
    try:
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError("a character that must be percent-encoded")
        parts = urlsplit(url)
        # Host, and the port where it is not the scheme's own.
        host = parts.hostname or ""
        named = f"[{host}]" if ":" in host else host
        usual = {"https": 443, "http": 80}.get(parts.scheme)
        place = named if parts.port in (None, usual) else f"{named}:{parts.port}"
    except ValueError as error:
        raise MediaError(what, where=redirected_from, got=f"{brief(url, 200)}: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise MediaError(what, where=redirected_from, got="a URL with a user name or password", expected="neither")
    local = parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        got, expected = f"{parts.scheme} to {brief(parts.hostname)}", "https"
        raise MediaError(what, where=redirected_from, got=got, expected=expected, do="copy the file below media.root")
    if place not in hosts:
        expected = ", ".join(hosts) or "no host: media.hosts lists none"
        do = f"add {place!r} to media.hosts if you trust it, or copy the file below media.root"
        raise MediaError(what, where=redirected_from, got=f"host {place!r}", expected=expected, do=do)
