"""A collection of documents and fake encoders in each store, to be swapped while others use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.metadata.payloads import NATIVE
from diptych.types import SparseVector
from diptych_edge import EdgeClient
from mortal import SharedStore
from named_server import clear, server_client

OLD: Mapping[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and no cache of embeddings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIPTYCH_CACHE", "off")


@pytest.fixture(params=["edge", "server"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[QdrantBase]:
    """An empty store, embedded or on the server that is named; what is alike in all stores `tests/contract` tests."""
    opened: QdrantBase = EdgeClient(tmp_path / "store") if request.param == "edge" else server_client()
    clear(opened, "c")
    yield opened
    clear(opened, "c")
    opened.close()


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[QdrantBase]:
    """An empty embedded store, for what local mode does not keep, such as payload indexes."""
    with EdgeClient(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def everything() -> Registry:
    """The fakes and what is installed."""
    from diptych.testing import fakes_plugin

    return Registry(fakes_plugin)


@pytest.fixture
def memory() -> QdrantBase:
    """An empty store in memory that takes several threads."""
    return SharedStore().client()


@pytest.fixture
def config() -> Callable[..., Config]:
    """`config(slots, **sections)`: small chunks, a small sample for the gate, no pauses."""

    def made(slots: Mapping[str, Any] = OLD, **sections: Any) -> Config:
        populate = {"chunk": 16, "retries": 0, **sections.pop("populate", {})}
        swap = sections.pop("swap", {})
        gate = {"sample": 8, "unmeasured": 1, "seconds": 600, **swap.pop("gate", {})}
        raw = {"collection": "c", "slots": slots, "populate": populate, "swap": {"gate": gate, **swap}, **sections}
        return Config.model_validate(raw)

    return made


@pytest.fixture
def opened(fakes: Registry) -> Callable[..., Collection]:
    """`opened(client, config=None)`: the collection as a new process would open it; without config, as it is."""

    def collection(client: QdrantBase, config: Config | None = None, *plugins: object) -> Collection:
        from diptych.handle.collection_handle import CollectionHandle
        from diptych.testing import fakes_plugin

        registry = Registry(fakes_plugin, *plugins, installed=False) if plugins else fakes
        found = Collection(CollectionHandle(client, "c", config, registry))
        if config is None:
            populate = {"chunk": 16, "retries": 0}
            found.handle.populate_config = Config.model_validate({**_ANY, "populate": populate}).populate
        return found

    return collection


_ANY: Mapping[str, Any] = {"collection": "c", "slots": OLD}


@pytest.fixture
def faults() -> Callable[..., list[str]]:
    """`faults(client, vector, encoder)`: points whose vector is missing or not made of their text by the encoder."""

    def found(client: QdrantBase, vector: str, encoder: Any) -> list[str]:
        records, _ = client.scroll("c", limit=100_000, with_payload=True, with_vectors=True)
        texts = [_text(record) for record in records]
        made = encoder.encode_document(texts) if texts else []
        kept = [(record.vector or {}).get(vector) for record in records]  # type: ignore[union-attr]
        return [
            f"{text!r}: {'missing' if have is None else 'stale'}"
            for text, want, have in zip(texts, made, kept, strict=True)
            if have is None or not _same(want, have)
        ]

    return found


def _text(record: models.Record) -> str:
    document = NATIVE.read(record.id, record.payload)
    return " ".join(filter(None, (document.title, document.text)))


def _same(want: Any, have: Any) -> bool:
    if isinstance(want, SparseVector):
        wanted = dict(zip(want.indices.tolist(), want.values.tolist(), strict=True))
        found = dict(zip(have.indices, have.values, strict=True))
        return wanted.keys() == found.keys() and all(abs(found[key] - wanted[key]) < 1e-6 for key in wanted)
    want, have = np.asarray(want, np.float32), np.asarray(have, np.float32)
    return want.shape == have.shape and bool(np.allclose(want, have, atol=1e-5))
