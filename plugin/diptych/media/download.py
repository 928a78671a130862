"""Downloads media from the hosts that the config lists, each within one deadline."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from diptych.errors import MediaError, brief
from diptych.media.read import checked_length, reason, too_large
from qdrant_edge_client.timed_reader import TimedReader

SECONDS, _CONNECT_SECONDS = 60.0, 10.0  # for a whole download, and to connect
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCK = 1 << 16


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
