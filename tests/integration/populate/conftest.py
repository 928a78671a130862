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
from diptych.testing import fakes_plugin
from named_server import emptied_store

OpenHandle = Callable[..., CollectionHandle]
Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
SLOTS: Mapping[str, Any] = {
    "dense": {"adapter": "fake-dense", "dimension": 16},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def memory() -> Iterator[QdrantBase]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[QdrantBase]:
    with emptied_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def open_handle() -> OpenHandle:
    """`open_handle(client, slots, *plugins, **populate)`: a handle as a new process would open it."""

    def opened(client: QdrantBase, slots: Mapping[str, Any] = SLOTS, *plugins: object, **populate: Any) -> Any:
        raw = {"collection": "c", "slots": slots, "populate": {"chunk": 8, "retries": 0, **populate}}
        # With a fusion of their own, or the vectors of the fakes, which read no order of words, would be looked at.
        config = Config.model_validate({**raw, "search": {"fuse": {"kind": "dbsf"}}})
        return CollectionHandle(client, "c", config, Registry(fakes_plugin, *plugins, installed=False))

    return opened


@pytest.fixture
def contents() -> Contents:
    """All points of the collection: point id -> payload and vectors in plain values."""

    def read(client: QdrantBase) -> dict[Any, tuple[Any, Any]]:
        found, _ = client.scroll("c", limit=100_000, with_payload=True, with_vectors=True)
        return {point.id: (point.payload, _plain(point.vector)) for point in found}

    return read


def _plain(vectors: Any) -> Any:
    if isinstance(vectors, dict):
        return {name: _plain(vector) for name, vector in sorted(vectors.items())}
    if isinstance(vectors, models.SparseVector):
        return [vectors.indices, np.array(vectors.values, np.float32).tolist()]
    return np.array(vectors, np.float32).tolist()
