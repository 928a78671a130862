from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.testing import fakes_plugin
from diptych_edge import EdgeClient
from named_server import clear, server_client, urls

AssertSame = Callable[..., None]
Fill = Callable[..., CollectionHandle]
SLOTS: Mapping[str, Any] = {
    "dense": {
        "adapter": "fake-dense",
        "dimension": 16,
        "storage": {"hnsw": {"m": 24}, "quantization": {"kind": "scalar"}, "on_disk": True},
    },
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    "tokens": {"adapter": "fake-multivector", "dimension": 8},
}
SEARCH = {"retrieve": {"dense": 20, "lexical": 20}, "limit": 5}
DOCUMENTS = [
    {"id": str(i), "text": f"word{i % 17} word{i % 23} number{i}", "section": i % 3, "nested": {"deep": [i, None]}}
    for i in range(100)
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _server() -> QdrantBase:
    # Shards count the IDF of each, and replicas differ in the order of equal scores: a copy's answers would differ.
    return server_client(shards=1, replicas=len(urls()))


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Callable[[str], QdrantBase]]:
    """`open_client(kind, name)`: an empty store; asked for twice, the same one."""
    makers: Mapping[str, Callable[[str], QdrantBase]] = {
        "memory": lambda _: QdrantClient(":memory:"),
        "edge": lambda name: EdgeClient(tmp_path / name),
        "server": lambda _: _server(),
    }
    opened: dict[str, QdrantBase] = {}

    def open_one(kind: str, name: str = "store") -> QdrantBase:
        key = f"{kind}/{name}"
        if key not in opened:
            opened[key] = makers[kind](name)
            clear(opened[key], "c", "copy")
        return opened[key]

    yield open_one
    for client in opened.values():
        client.close()


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin, installed=False)


@pytest.fixture
def config() -> Config:
    raw = {"collection": "c", "slots": SLOTS, "search": SEARCH, "populate": {"indexes": {"section": "integer"}}}
    return Config.model_validate(raw)


@pytest.fixture
def fill(registry: Registry, config: Config) -> Fill:
    """`fill(client)`: the documents in collection "c"."""

    def filled(client: QdrantBase, documents: Any = DOCUMENTS, name: str = "c") -> CollectionHandle:
        handle = CollectionHandle(client, name, config, registry)
        populate(handle, documents)
        return handle

    return filled


@pytest.fixture
def assert_same() -> AssertSame:
    """`assert_same(client, name, other, name)`: the same points, payloads and vectors, read and compared plainly."""

    def compare(one: QdrantBase, name: str, two: QdrantBase, other: str) -> None:
        ours, theirs = _points(one, name), _points(two, other)
        assert ours.keys() == theirs.keys()
        for identifier, (payload, vectors) in ours.items():
            assert payload == theirs[identifier][0]
            expected = theirs[identifier][1]
            assert vectors.keys() == expected.keys(), identifier
            for vector, values in vectors.items():
                np.testing.assert_allclose(values, expected[vector], atol=1e-6, err_msg=f"{identifier} {vector}")

    return compare


def _points(client: QdrantBase, name: str) -> dict[Any, tuple[Any, dict[str, Any]]]:
    found, _ = client.scroll(name, limit=100_000, with_payload=True, with_vectors=True)
    return {point.id: (point.payload or {}, _vectors(point.vector)) for point in found}


def _vectors(found: Any) -> dict[str, Any]:
    named = found if isinstance(found, dict) else {} if found is None else {"": found}
    return {name: _plain(vector) for name, vector in named.items()}


def _plain(vector: Any) -> Any:
    if not isinstance(vector, models.SparseVector):
        return np.array(vector, np.float32)
    return np.array(sorted(zip(vector.indices, vector.values, strict=True)), np.float64)
