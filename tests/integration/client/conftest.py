"""Clients of each kind over encoders that are fakes, by slot and by adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import diptych
import picture_plugin
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.registry import Registry
from diptych.testing import fakes_plugin
from named_server import STORE, placed

CONFIG = {
    "store": "memory:",
    "collection": "things",
    "slots": {
        "dense": {"adapter": "fake-dense", "expand": {"sound": "audio"}},
        "lexical": {"adapter": "fake-sparse"},
        "late": {"adapter": "fake-multivector"},
    },
    "search": {"retrieve": {"dense": 10}},
    "cache": {"enabled": False},
}


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry(fakes_plugin, picture_plugin, installed=False)


@pytest.fixture
def encoders(registry: Registry) -> Encoders:
    return Encoders.open(parse_config(CONFIG), registry=registry)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a config says of a store."""
    with placed(STORE, tmp_path / "store", "demo", "demo_collection", "shots", "things", shards=1) as found:
        yield found


@pytest.fixture
def client(place: dict[str, Any], encoders: Encoders, registry: Registry) -> Iterator[Any]:
    """A client of qdrant-client's local mode, one of Edge, and one of a server."""
    made = diptych.client(config=parse_config({**CONFIG, **place}), encoders=encoders, registry=registry)
    yield made
    made.close()


@pytest.fixture
def plain() -> Iterator[Callable[[], Any]]:
    """Makes clients that know nothing of diptych."""
    from qdrant_client import QdrantClient

    with ExitStack() as stack:

        def make() -> QdrantClient:
            made = QdrantClient(":memory:")
            stack.callback(made.close)
            return made

        yield make
