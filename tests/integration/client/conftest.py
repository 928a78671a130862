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


@pytest.fixture(params=["memory", "edge"])
def client(request: pytest.FixtureRequest, encoders: Encoders, tmp_path: Path) -> Iterator[Any]:
    """A client of qdrant-client's local mode, and one of Edge."""
    location = ":memory:" if request.param == "memory" else f"edge:{tmp_path / 'store'}"
    made = diptych.client(location, encoders=encoders)
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
