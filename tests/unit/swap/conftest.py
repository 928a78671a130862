"""A small collection whose metadata a lease can be written to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase


@pytest.fixture
def client() -> Iterator[QdrantBase]:
    """A store in memory with an empty collection `c`."""
    made = QdrantClient(":memory:")
    made.create_collection("c", vectors_config={}, metadata={"diptych": {}})
    yield made
    made.close()
