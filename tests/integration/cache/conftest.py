from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.stores import open_store_of
from diptych.testing import fakes_plugin
from named_server import STORE, placed

OpenHandle = Callable[..., CollectionHandle]


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache that is on in this test."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[QdrantBase]:
    """An empty store."""
    with placed(STORE, tmp_path / "store", "one", "two", "three", "c") as place:
        opened = open_store_of(
            Config.model_validate({**place, "collection": "c", "slots": {"s": {"adapter": "fake-dense"}}})
        )
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
    populate, search = {"chunk": 64, "retries": 0}, {"fuse": {"kind": "dbsf"}}  # named, so that no vector is looked at
    raw = {"collection": name, "slots": slots, "populate": populate, "search": search, "store": "memory:"}
    return Config.model_validate(raw)
