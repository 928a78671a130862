"""Opens stores by URL. All of them have one client interface, `qdrant_client.client_base.QdrantBase`.

| URL | served by |
|---|---|
| `edge:PATH` | Qdrant Edge, in this process or in the one that opened the path first and serves its user's others |
| `edge:PATH?mode=ro` | Qdrant Edge, reading only: the folder needs no lock and is not changed |
| `http(s)://HOST:PORT`, `grpc(s)://HOST:PORT` | a Qdrant server or cluster |
| a list of such URLs | the nodes of one cluster; a call moves to the next node when one does not answer |
| `memory:` | qdrant-client's local mode: for tests and parity checks, gone when the process ends |
| `local:PATH` | a folder of qdrant-client's local mode, to be adopted or copied |

Begin with `open_store`, below. The clients are in `diptych_edge`, `server_client`, `nodes`, `cluster_client` and
`local_mode`; `versions` says what older servers lack and keeps an eye on an embedded store's disk, and `scroll` reads a
collection page by page.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import diptych.runtime.lazy_imports  # noqa: F401
from diptych.config.storage import placement
from diptych.errors import CollectionNotFound, ConfigError, InsecureKeyWarning, StoreUnavailable, StoreURLError
from diptych.runtime.environment import interpolate, is_loopback
from diptych.runtime.validation_messages import is_unicode
from diptych.stores.nodes import deadline
from diptych.stores.server_errors import error_line, refuses_key
from diptych.stores.versions import server_version

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.config.models import Config
    from diptych.config.storage import ClusterConfig
    from diptych.registry import Registry

_PLAIN = {"http": "https", "grpc": "grpcs"}  # protocols without encryption, and those with it

__all__ = ["Classes", "deadline", "is_server", "is_store_url", "open_store", "open_store_of", "place_of"]
READ_ONLY = "?mode=ro"
_LONGEST_URL = 4096  # characters, as Linux's longest path
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True)
class Classes:
    """The client classes for each kind of store."""

    memory: Callable[..., QdrantBase]
    edge: Callable[..., QdrantBase]
    server: Callable[..., QdrantBase]
    cluster: Callable[..., QdrantBase]


def open_store(
    url: str | Sequence[str],
    *,
    api_key: str | None = None,
    timeout: int = 60,
    search_timeout: int = 10,
    base: Path | None = None,
    registry: Registry | None = None,
    create: bool = True,
    cluster: ClusterConfig | None = None,
    classes: Classes | None = None,
) -> QdrantBase:
    """Open the store behind `url`; a plugin's `diptych_open_store` is tried first.

    Args:
        url: see the table above, a list for several nodes; `${NAME}` is filled in from the environment.
        api_key: key of a server, never shown.
        timeout: seconds to wait for a server.
        search_timeout: seconds that a search waits for it.
        base: folder that a relative `edge:` path starts from; the working folder unless given.
        registry: whose plugins may open the URL.
        create: whether an `edge:` folder that is not there is made.
        cluster: how a server spreads the collections that are made, and how it reads and writes.
        classes: of the clients, where they are to be others than diptych's own.

    Raises:
        ConfigError: the store is no server and could not honour `cluster`.
        StoreURLError: no store can be opened for this URL.
        StoreLocked: another process has the embedded store open and does not answer.
        StoreUnavailable: the server does not answer, or refuses the key.
        CollectionNotFound, StoreError: no store is in the `edge:` folder, and `create` is false.
    """
    urls = [interpolate(one, where="store") for one in ([url] if isinstance(url, str) else url)]
    for one in urls:
        _require_possible(one)
    _require_one_server(urls)
    first = urls[0]
    scheme, _, rest = first.partition(":")
    own = registry.hook.diptych_open_store(url=first) if registry is not None else None
    if cluster is not None and cluster.given and (own is not None or scheme not in _SERVERS):
        raise ConfigError(
            "only a Qdrant server has shards and replicas",
            where=f"cluster.{next(iter(cluster.given))}",
            got=f"store: {_without_secrets(first)}",
            expected="http(s)://HOST:PORT or grpc(s)://HOST:PORT",
            do="leave `cluster` out, or name a server",
        )
    if own is not None:
        return own  # type: ignore[no-any-return]
    from qdrant_client import QdrantClient

    memory = classes.memory if classes else QdrantClient
    if scheme == "memory":
        return memory(":memory:")
    if scheme == "local" and rest:
        from diptych.stores.local_mode import open_local

        return open_local(Path(base or ".") / Path(rest).expanduser(), create, memory)
    if scheme == "edge" and rest:
        return _edge(Path(base or ".") / Path(rest).expanduser(), create, classes)
    if scheme in _SERVERS and urlsplit(first).hostname:
        return _reachable(_server(urls, api_key, (timeout, search_timeout), cluster, classes), ", ".join(urls))
    raise _no_store(_without_secrets(first))


def _require_possible(url: str) -> None:
    """Raise StoreURLError for text that can be neither an address nor a path."""
    try:
        possible = is_unicode(url) and url.isprintable() and len(url) <= _LONGEST_URL
        possible = possible and (urlsplit(url).port or 1) > 0
    except ValueError:  # a port that is not a number, or half an IPv6 address
        possible = False
    if not possible:
        raise _no_store(f"{url.partition(':')[0][:40]}: and what cannot be an address or a path")


def _require_one_server(urls: Sequence[str]) -> None:
    """Raise StoreURLError unless it is one URL, or several servers with the same protocol."""
    schemes = {urlsplit(one).scheme for one in urls}
    if len(urls) == 1 or (len(schemes) == 1 and schemes <= _SERVERS.keys()):
        return
    got = ", ".join(map(_without_secrets, urls)) or "an empty list"
    raise StoreURLError(
        "a list of URLs names the nodes of one cluster",
        got=got,
        expected="http(s)://HOST:PORT for each, or grpc(s)://HOST:PORT for each",
    )


def _no_store(got: str) -> StoreURLError:
    expected = "edge:PATH, local:PATH, memory:, http(s)://HOST:PORT or grpc(s)://HOST:PORT"
    return StoreURLError("no store supports this URL", got=got, expected=expected)


def open_store_of(
    config: Config, *, registry: Registry | None = None, create: bool = True, classes: Classes | None = None
) -> QdrantBase:
    """Open the store that a config names, with its key, timeout and cluster settings.

    Raises:
        ConfigError, StoreError, CollectionNotFound: as `open_store`.
    """
    return open_store(
        config.urls,
        api_key=interpolate(config.api_key.get_secret_value(), where="api_key") if config.api_key else None,
        timeout=config.timeout,
        search_timeout=config.search_timeout,
        registry=registry,
        create=create,
        cluster=placement(config.tenant, config.cluster),
        classes=classes,
    )


def is_store_url(text: str) -> bool:
    """Whether `text` looks like a store URL rather than the path of a config file.

    A scheme is what RFC 3986 calls one; a single letter is a drive of Windows, and what exists is a path.
    """
    return _SCHEME.match(text) is not None and not os.path.exists(text)  # Path.exists raises for names that cannot be


def is_server(url: str) -> bool:
    """Whether the URL is that of a server. Variables of the environment are not resolved."""
    return urlsplit(url).scheme in _SERVERS


def place_of(url: str) -> dict[str, Any]:
    """The protocol and address of a server's URL: whether it is `grpc`, and arguments of `QdrantClient`."""
    return _SERVERS[urlsplit(url).scheme](url)


def _edge(path: Path, create: bool, classes: Classes | None) -> QdrantBase:
    from diptych_edge import SharedEdgeClient

    read_only = path.name.endswith(READ_ONLY)
    path = path.with_name(path.name.removesuffix(READ_ONLY)) if read_only else path
    got = "" if create or os.path.isdir(path) else "no such folder"
    if not create and not got:
        with suppress(OSError):  # errors about unreadable folders come from opening them
            got = "" if any(path.iterdir()) else "an empty folder"
    if got:
        do = "fill it first: diptych populate SOURCE; or check the path"
        raise CollectionNotFound("there is no embedded store", where=f"edge:{path}", got=got, do=do)
    return (classes.edge if classes else SharedEdgeClient)(path, create=create, read_only=read_only)


def _server(
    urls: Sequence[str],
    api_key: str | None,
    seconds: tuple[int, int],
    cluster: ClusterConfig | None,
    classes: Classes | None,
) -> QdrantBase:
    from diptych.stores.cluster_client import ClusterClient
    from diptych.stores.server_client import ServerClient

    for url in urls:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:  # URLs appear in errors and reports
            raise StoreURLError(
                "a store's URL has a user, a password or a query",
                got=_without_secrets(url),
                expected="SCHEME://HOST:PORT/PREFIX",
                do="give the key apart: api_key: ${QDRANT_API_KEY}",
            )
    place, *others = map(place_of, urls)
    headers = key_headers(urls, api_key)
    options = {"headers": headers, "timeout": seconds[0], "search_timeout": seconds[1], "others": others, **place}
    if cluster is None or not cluster.given:
        return (classes.server if classes else ServerClient)(**options)
    return (classes.cluster if classes else ClusterClient)(cluster, **options)


def _http(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"grpc": False, "url": url, "port": parts.port or (443 if parts.scheme == "https" else 6333)}


def _grpc(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    https = parts.scheme == "grpcs"
    return {"grpc": True, "host": parts.hostname, "grpc_port": parts.port or 6334, "https": https}


_SERVERS: dict[str, Callable[[str], dict[str, Any]]] = {"http": _http, "https": _http, "grpc": _grpc, "grpcs": _grpc}


def _reachable(client: QdrantBase, place: str) -> QdrantBase:
    """The client, after the server has answered."""
    try:
        client.get_collections()
    except Exception as error:
        client.close()
        got = error_line(error)
        if refuses_key(error):
            do = "check api_key: it may be missing, of another server, or not allowed to list collections"
            raise StoreUnavailable("the Qdrant server refuses the key", where=place, got=got, do=do) from error
        raise StoreUnavailable(
            "the Qdrant server does not answer",
            where=place,
            got=got,
            do="check that it runs, its URL and api_key; or use an embedded store: edge:./qdrant",
        ) from error
    server_version(client)  # kept, for what it lacks
    return client


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


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
