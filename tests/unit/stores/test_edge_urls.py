"""What diptych makes of an embedded store: `edge:` URLs, and the metadata of collections in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych.errors import CollectionNotFound, StoreError, StoreReadOnly
from diptych.metadata.store import raw_metadata, read_metadata
from diptych.stores import open_store
from diptych_edge import EdgeClient, SharedEdgeClient

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder of a store with the collection `docs` of one point, which was closed."""
    with EdgeClient(tmp_path / "edge") as client:
        client.create_collection("docs", DOT)
        client.upsert("docs", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={})])
    return tmp_path / "edge"


def test_a_url_says_that_a_store_is_only_read(image: Path) -> None:
    client: Any = open_store(f"edge:{image}?mode=ro", create=False)
    with client:
        assert isinstance(client, SharedEdgeClient)
        assert client.count("docs").count == 1
        with pytest.raises(StoreReadOnly):
            client.delete("docs", [1])
    with pytest.raises(CollectionNotFound, match="there is no embedded store"):
        open_store(f"edge:{image}-none?mode=ro", create=False)
    with pytest.raises(StoreError, match="there is no embedded store"):
        open_store(f"edge:{image}-none?mode=ro")


def test_metadata_is_read_without_counting_points(tmp_path: Path) -> None:
    class Uncounted(EdgeClient):
        """Cannot be asked for what a collection holds, which takes the longer the more that is."""

        def get_collection(self, collection_name: str, **kwargs: object) -> models.CollectionInfo:
            raise NotImplementedError

    with Uncounted(tmp_path) as client:
        client.create_collection("c", DOT, metadata={"other": 1})
        assert read_metadata(client, "c") is None
        assert raw_metadata(client, "c") == client.get_metadata("c") == {"other": 1}
