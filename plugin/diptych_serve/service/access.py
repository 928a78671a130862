"""Who may ask a server, and how much: API `Keys` and `Limits` of requests."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from diptych.errors import ConfigError
from diptych.runtime.environment import is_loopback

VARIABLE = "DIPTYCH_API_KEY"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SENDABLE = re.compile(r"[!-~]+")


class Keys:
    """The API keys of a server; without any, it is open. Only their hashes are stored."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._hashes = tuple(_hash(key) for key in keys)

    @classmethod
    def from_environment(cls, name: str | None = None) -> Keys:
        """The keys in variable `name`, separated by commas or blanks; else those of DIPTYCH_API_KEY, if set.

        Raises:
            ConfigError: `name` is no variable's name (it may be a key, so it is not shown) or is not set, or a key
                holds what no header can.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigError(
                "this is not the name of an environment variable",
                where="--api-keys-env",
                expected="a name such as MY_KEYS, not a key",
                do="export the keys under a name and give that; a key on a command line is seen by everybody",
            )
        keys = re.split(r"[,\s]+", os.environ.get(name or VARIABLE, "").strip(", \t\r\n"))
        if name is not None and not any(keys):
            raise ConfigError(f"environment variable {name} is not set", where="--api-keys-env", do=f"export {name}=..")
        if not all(_SENDABLE.fullmatch(key) for key in keys if key):
            raise ConfigError("a key cannot be sent", where=name or VARIABLE, got="characters beyond ASCII")
        return cls(key for key in keys if key)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __repr__(self) -> str:
        return f"Keys({len(self._hashes)})"

    def accept(self, header: str) -> bool:
        """Whether the value of an `Authorization` header is `Bearer KEY` with one of the keys."""
        scheme, _, key = header.partition(" ")
        return self.accept_key(key.strip()) and scheme.lower() == "bearer"

    def accept_key(self, key: str) -> bool:
        """Whether this is one of the keys."""
        digest = _hash(key)
        same = [hmac.compare_digest(digest, stored) for stored in self._hashes]  # all of them, whichever is right
        return any(same)


def require_key(host: str, keys: Keys, *, insecure: bool) -> None:
    """Raise ConfigError if other machines could call without a key."""
    if not keys and not insecure and not is_loopback(host):
        what, got = "an address that other machines can reach needs an API key", f"no {VARIABLE} in the environment"
        do = f"export {VARIABLE}=..., listen on 127.0.0.1, or add --insecure"
        raise ConfigError(what, where=f"--host {host}", got=got, do=do)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may contain.

    Args:
        body: bytes of a request's body; more is 413.
        inputs: texts to encode, queries, or documents to rerank; more is 422.
        characters: of each of them; more is 422.
        hits: that a search request may ask for or skip, all its queries together; more is 422.
        body_seconds: until a body must have come; later is 408.
        upload: bytes of the documents of a populate; more is 413.
    """

    body: int = 2 * 1024 * 1024
    inputs: int = 2048
    characters: int = 100_000
    hits: int = 10_000
    body_seconds: float = 30.0
    upload: int = 1024 * 1024 * 1024
