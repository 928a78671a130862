"""API keys: read from the environment, added to requests, and kept out of everything that is shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from urllib.parse import quote, urlsplit

import httpx

from diptych.errors import ConfigError

_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_REDACTED = 8  # first characters of a key, which are hidden wherever they occur
HIDDEN = "***"
_HEADER_TEXT = re.compile(r"[!-~]+")


class Key(httpx.Auth):
    """A key, or none. It is sent in one header and never shown."""

    def __init__(self, secret: str = "", *, header: str = "Authorization") -> None:
        self._secret, self._header = secret, header

    @classmethod
    def from_environment(cls, name: str | None, *, header: str, where: str) -> Key:
        """The key in variable `name`; no key when `name` is None.

        Raises:
            ConfigError: `name` is not a variable's name (it may be the key itself, so it is not shown), is not set, or
                holds what no header can.
        """
        if name is None:
            return cls()
        if not _ENV_NAME.fullmatch(name):
            raise ConfigError(
                "api_key_env is not the name of an environment variable",
                where=where,
                expected="a name in capitals such as OPENAI_API_KEY, not the key",
                do="export the key under such a name and write that name; a key in a config file is no secret any more",
            )
        secret = os.environ.get(name, "").strip()
        if not secret:
            raise ConfigError(f"environment variable {name} is not set", where=where, do=f"export {name}=...")
        if not _HEADER_TEXT.fullmatch(secret):  # HTTP libraries quote such a header in their errors
            raise ConfigError(
                f"the key in environment variable {name} cannot be sent",
                where=where,
                got="spaces, line breaks or characters beyond ASCII",
                do=f"export {name} again; was more than the key copied?",
            )
        return cls(secret, header=header)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the key to `request`."""
        if self._secret:
            bearer = "Bearer " if self._header.lower() == "authorization" else ""
            request.headers[self._header] = bearer + self._secret
        yield request

    def redact(self, text: str) -> str:
        """`text` without the key, or a beginning of it, which a server that shortens texts may show."""
        for form in self._forms:
            first, *parts = text.split(form[:_REDACTED])
            text = first + "".join(HIDDEN + part[_common_prefix(part, form[_REDACTED:]) :] for part in parts)
        return text

    @property
    def _forms(self) -> set[str]:
        """The ways in which an answer may contain the key: plain, in JSON, in an address, in Python."""
        secret = self._secret
        return {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1]} if secret else set()

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled; make the adapter again where it is needed")

    def __repr__(self) -> str:
        return "Key(***)" if self._secret else "Key()"


def _common_prefix(text: str, other: str) -> int:
    """The length of the common beginning of both."""
    return next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def checked_url(url: str, *, where: str) -> str:
    """`url` without a slash at its end.

    Raises:
        ConfigError: it is no http(s) address, or it holds a password or a query, which may hold a key and is not shown.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            "base_url holds more than an address",
            where=where,
            expected="https://host/path, without user, password or query",
            do="put the key into an environment variable and name that in api_key_env",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "base_url is not an address of a web server",
            where=where,
            got=repr(url[:80]),
            expected="http(s)://host/path",
        )
    return url.rstrip("/")
