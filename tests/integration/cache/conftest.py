from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.testing import fakes_plugin
from qdrant_edge_client import EdgeClient

OpenHandle = Callable[..., CollectionHandle]


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache that is on in this test."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture(params=["memory", "edge"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantBase]:
    opened = QdrantClient(":memory:") if request.param == "memory" else EdgeClient(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def open_handle() -> OpenHandle:
    """`open_handle(client, name, slots, *plugins)`: a handle as a new process would open it."""

    def opened(client: QdrantBase, name: str, slots: Mapping[str, Any], *plugins: object) -> CollectionHandle:
        config = config_of(name, slots)
        return CollectionHandle(client, name, config, Registry(fakes_plugin, *plugins, installed=False))

    return opened


def config_of(name: str, slots: Mapping[str, Any]) -> Config:
    populate = {"chunk": 64, "retries": 0}
    return Config.model_validate({"collection": name, "slots": slots, "populate": populate, "store": "memory:"})
