"""The API key of a server: the header that carries it, and a warning where it would travel unencrypted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from urllib.parse import urlsplit

from diptych.errors import InsecureKeyWarning
from diptych.runtime.environment import is_loopback

_PLAIN = {"http": "https", "grpc": "grpcs"}  # protocols without encryption, and those with it


def exposed(urls: Sequence[str]) -> list[str]:
    """The URLs to which a key would go unencrypted over a network."""
    return [url for url in urls if (parts := urlsplit(url)).scheme in _PLAIN and not is_loopback(parts.hostname or "")]


def key_headers(urls: Sequence[str], api_key: str | None) -> dict[str, str]:
    """The headers that carry the key to these servers, {} without one; warns once of `exposed` ones.

    qdrant-client's own warning names no server, comes once for each connection, and comes for this machine, too. It
    is left out where the key is given as a header.
    """
    if api_key is None:
        return {}
    if plain := exposed(urls):
        secure = _PLAIN[urlsplit(plain[0]).scheme]
        warnings.warn(
            f"the API key goes to {', '.join(plain)} unencrypted, so others on the network can read it: "
            f"use {secure}://, or an encrypted tunnel that ends on this machine",
            InsecureKeyWarning,
            stacklevel=2,
        )
    return {"api-key": api_key}
