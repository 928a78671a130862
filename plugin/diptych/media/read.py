"""Reads the bytes of media: files below the root, data: URIs, and URLs of listed hosts. Nothing here decodes them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import io
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from diptych.errors import MediaError, brief
from diptych.runtime.sockets import TimedReader

SECONDS, _CONNECT_SECONDS = 60.0, 10.0  # for a whole download, and to connect
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCK = 1 << 16

ELSEWHERE = "paths start at media.root; for a file elsewhere, pass its bytes: Path(...).read_bytes()"
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO put there meanwhile does not block

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b"FORM", "AIFF"),
    (4, b"ftyp", "MP4"),
    (0, b"\x1aE\xdf\xa3", "WebM"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "zip"),
)
_RIFF = {b"WEBP": "WEBP", b"WAVE": "WAV"}
_SLACK = 8  # bytes by which writers of RIFF files miscount


def format_of(data: bytes) -> str:
    """The file format by the first bytes: `PNG`, `WAV`, `npy`, ..., `text`, or `unknown`."""
    for start, magic, name in _MAGIC:
        if data[start : start + len(magic)] == magic:
            return name
    if data[:4] == b"RIFF" and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    if data[:1] == b"\xff" and data[1:2] and data[1] & 0xE6 == 0xE2:  # a frame of MPEG audio, layer III
        return "MP3"
    head = data[:4096]
    control = any(byte < 32 and byte not in b"\t\n\r\x0c" for byte in head)
    return "unknown" if control or not head else "text"


def stated_length(data: bytes) -> int:
    """The bytes that a sound or clip has by its own headers; 0 where they do not say. Decoders do not check it."""
    kind = format_of(data)
    if kind in ("WAV", "AIFF"):
        return 8 + int.from_bytes(data[4:8], "little" if kind == "WAV" else "big") - _SLACK
    if kind == "MP4":  # where its last top-level box ends
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1:  # the size follows in 64 bits
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            if size < 8:  # 0: to the end of the file
                break
            at += size
        return at
    if kind == "WebM" and (at := data[:4096].find(b"\x18\x53\x80\x67")) >= 0 and data[at + 4 : at + 5] > b"\0":
        width = 9 - data[at + 4].bit_length()  # of the size: leading zero bits count the bytes that follow
        size = int.from_bytes(data[at + 4 : at + 4 + width], "big") & ((1 << 7 * width) - 1)
        return 0 if size == (1 << 7 * width) - 1 else at + 4 + width + size  # all ones: a live recording
    if kind == "GIF":
        return len(data) + (data.rstrip(b"\0")[-1:] != b";")  # the trailer
    return 0


def is_url(text: str) -> bool:
    """Whether the text names a scheme, as URLs do and paths do not."""
    return text[:8].lower().startswith(("http://", "https://")) or "://" in text[:16]


def is_data_uri(text: str) -> bool:
    """Whether the text is a data: URI."""
    return text[:5].lower() == "data:"


def read_file(root: Path, path: str | os.PathLike[str], max_bytes: int) -> tuple[str, bytes]:
    """Read a file below the root: its path relative to the root, with "/", and its bytes.

    Args:
        root: the folder that the path starts from; the file must lie in it, after all symbolic links are resolved.
        path: relative to the root, or absolute.
        max_bytes: the most that is read.

    Raises:
        MediaError: the path leads out of the root, or to no regular file, or the file is empty or too large.
    """
    given = os.fspath(path)
    if not isinstance(given, str) or not given or "\0" in given:
        raise MediaError("this media path cannot be used", got=brief(path), expected="a path below media.root")
    plain = PurePosixPath(given)
    if plain.parts and not plain.is_absolute() and ".." not in plain.parts:
        # Only a link leads such a path out of the root, and no link is followed. Resolving links first takes longer.
        with contextlib.suppress(OSError, ValueError):
            return plain.as_posix(), _read_regular(root, plain.parts, plain.as_posix(), max_bytes)
    try:
        base = os.path.realpath(root, strict=True)
        real = os.path.realpath(os.path.join(base, given), strict=True)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        what = "the media file does not exist" if missing else f"the media file cannot be found: {reason(error)}"
        raise MediaError(what, where=brief(given, 300), expected=f"a file below {root}", do=ELSEWHERE) from error
    inside = base.rstrip(os.sep) + os.sep
    if not real.startswith(inside):
        what = "the media path does not lead to a file below the root folder"
        raise MediaError(what, where=brief(given, 300), expected=f"a file below {base}", do=ELSEWHERE)
    within = real.removeprefix(inside)
    source = within if plain.is_absolute() or ".." in plain.parts else plain.as_posix()
    try:
        return source, _read_regular(base, within.split(os.sep), source, max_bytes)
    except OSError as error:
        raise MediaError(f"the media file cannot be read: {reason(error)}", where=source) from error


def _read_regular(base: str | Path, parts: Sequence[str], name: str, max_bytes: int) -> bytes:
    """The bytes of a regular file, opened folder by folder: no link that is put there meanwhile is followed."""
    opened: list[int] = []
    try:
        opened.append(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for part in parts[:-1]:
            opened.append(os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=opened[-1]))
        _check_regular(os.stat(parts[-1], dir_fd=opened[-1], follow_symlinks=False), name, max_bytes)
        opened.append(os.open(parts[-1], _FLAGS, dir_fd=opened[-1]))
        facts = os.fstat(opened[-1])
        _check_regular(facts, name, max_bytes)
        with os.fdopen(opened.pop(), "rb") as file:
            data = file.read(facts.st_size + 1)  # one more than stated, to see a file that is being written
        if len(data) != facts.st_size:
            raise MediaError(
                "the media file changed while it was read", where=name, do="try again when the file is complete"
            )
        return checked_length(data, name, max_bytes)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _check_regular(facts: os.stat_result, name: str, max_bytes: int) -> None:
    if stat.S_ISLNK(facts.st_mode):
        raise OSError("it is a link")
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "a pipe, socket or device"
        raise MediaError("the media path is not a regular file", where=name, got=kind, expected="a file")
    if facts.st_size > max_bytes:
        raise too_large(name, f"{facts.st_size:,}", max_bytes)


def checked_length(data: bytes, name: str, max_bytes: int) -> bytes:
    """The data; raises MediaError where it is empty or longer than `max_bytes`."""
    if not data:
        raise MediaError("the media are empty", where=name, got="0 bytes")
    if len(data) > max_bytes:
        raise too_large(name, f"{len(data):,}", max_bytes)
    return data


def too_large(name: str, got: str, max_bytes: int) -> MediaError:
    """The error for media with too many bytes."""
    do = "make it smaller, or raise media.max_bytes"
    return MediaError(
        "the media are too large", where=name, got=f"{got} bytes", expected=f"at most {max_bytes:,}", do=do
    )


def read_data_uri(uri: str, max_bytes: int) -> bytes:
    """The bytes of a data: URI.

    Raises:
        MediaError: it has no comma, is not base64 although it says so, or is too large.
    """
    head, comma, body = uri.partition(",")
    if not comma:
        raise MediaError("a data: URI has no comma", got=brief(uri), expected="data:image/png;base64,...")
    if len(body) > 3 * max_bytes + 4:
        raise too_large("data: URI", f"up to {len(body) * 3 // 4:,}", max_bytes)
    if not head.lower().endswith(";base64"):
        return checked_length(unquote_to_bytes(body), "data: URI", max_bytes)
    try:
        data = base64.b64decode(unquote_to_bytes(body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"a data: URI is not base64: {error}", got=brief(uri)) from error
    return checked_length(data, "data: URI", max_bytes)


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


def reason(error: BaseException) -> str:
    """What the system says of a failure, in one line."""
    cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0][:200]
