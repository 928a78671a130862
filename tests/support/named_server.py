"""The Qdrant server that DIPTYCH_TEST_SERVER names: suites that have a store run there, too.

| variable | holds |
|---|---|
| `DIPTYCH_TEST_SERVER` | its URL, `http://`, `https://`, `grpc://` or `grpcs://` |
| `DIPTYCH_TEST_SERVER_KEY` | its key, if it wants one |
| `DIPTYCH_TEST_CLUSTER` | the URLs of the nodes of a cluster, with spaces between, in place of one server |

Each suite deletes the collections that it names, so the server should hold nothing else. Suites that run at the same
time would delete each other's: `pytest -n 0`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from diptych.config.storage import ClusterConfig
from diptych.protocols import Kind
from diptych.stores import open_store
from diptych.stores.versions import FEATURES, dotted, is_server_client, server_version
from diptych_edge import EdgeClient

KEY = "DIPTYCH_TEST_SERVER_KEY"
KNOWN_BY = {"DIPTYCH_TEST_SERVER", "DIPTYCH_TEST_CLUSTER"}
SPREAD = {"shards": 2, "replicas": 2, "write_consistency": 2}


def urls() -> list[str]:
    """Where it is; skips the test where no server is named."""
    found = os.environ.get("DIPTYCH_TEST_CLUSTER", "").split() or os.environ.get("DIPTYCH_TEST_SERVER", "").split()
    if not found:
        pytest.skip("no Qdrant server: set DIPTYCH_TEST_SERVER to its URL")
    return found


def settings(**cluster: Any) -> dict[str, Any]:
    """What a config says of it: `store`, and `api_key` and `cluster` where it has them, with these changes."""
    found: dict[str, Any] = {"store": urls() if is_cluster() else urls()[0]}
    found |= {"api_key": f"${{{KEY}}}"} if os.environ.get(KEY) else {}
    return found | ({"cluster": SPREAD | cluster} if is_cluster() else {})


def is_cluster() -> bool:
    """Whether there are several nodes."""
    return bool(os.environ.get("DIPTYCH_TEST_CLUSTER"))


def server_client(**cluster: Any) -> QdrantBase:
    """A client of it; `cluster` changes how a cluster spreads what is created."""
    spread = ClusterConfig.model_validate(SPREAD | cluster) if is_cluster() else None
    return open_store(urls(), api_key=os.environ.get(KEY), cluster=spread)


STORE = "server" if KNOWN_BY & os.environ.keys() else "edge"  # of suites of features; tests/contract compares stores
STORES: dict[str, Callable[[Path], QdrantBase]] = {
    "memory": lambda _: QdrantClient(":memory:"),
    "edge": EdgeClient,
    "server": lambda _: server_client(),
}


@contextmanager
def emptied_store(folder: Path, kind: str = STORE) -> Iterator[QdrantBase]:
    """A store of this kind of `STORES` below `folder`, without collection `c`, and closed afterwards."""
    client = STORES[kind](folder / "store")
    clear(client, "c")
    yield client
    clear(client, "c")
    client.close()


@contextmanager
def emptied(*names: str, **cluster: Any) -> Iterator[dict[str, Any]]:
    """`settings(**cluster)`, without these collections before and after."""
    delete(*names)
    yield settings(**cluster)
    delete(*names)


@contextmanager
def placed(kind: str, folder: Path, *names: str, **cluster: Any) -> Iterator[dict[str, Any]]:
    """What a config says of an empty store: `memory:`, `edge:` in a folder, or `server` without these collections.

    On a cluster each shard chooses candidates of its own, so a test of which are chosen asks for `shards=1`.
    """
    if kind == "server":
        with emptied(*names, **cluster) as found:
            yield found
    else:
        yield {"store": kind if kind == "memory:" else f"edge:{folder}"}


def delete(*names: str) -> None:
    """Delete these collections, as `clear` does."""
    with closing(server_client()) as client:
        clear(client, *names)


def clear(client: QdrantBase, *names: str) -> None:
    """Delete these collections, and what aliases of these names lead to: `c.1`, `c.2` on a server before 1.18."""
    gone = {*names, *(known.collection_name for known in client.get_aliases().aliases if known.alias_name in names)}
    for known in client.get_collections().collections:
        if known.name in gone or known.name.rpartition(".")[0] in names:
            client.delete_collection(known.name)


def require_feature(client: QdrantBase, kind: Kind) -> None:
    """Skip the test where the store is a server that is too old for slots of this kind."""
    for feature in FEATURES:
        if feature.kind == kind:
            require_version(client, feature.since, feature.needs)


def require_vector_names(client: QdrantBase) -> None:
    """Skip the test where the store is a server that cannot add a vector to a collection, and cannot drop one."""
    require_version(client, (1, 18), "vectors that are added and dropped by name")


def require_version(client: QdrantBase, since: tuple[int, ...], needs: str) -> None:
    """Skip the test where the store is a server below a version."""
    version = server_version(client) if is_server_client(client) else None
    if version is not None and version < since:
        pytest.skip(f"Qdrant {dotted(version)}: {needs} need {dotted(since)}")
