"""A change of a collection's metadata is over when every node shows it, and an error where one never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import StoreUnavailable, SwapError
from diptych.metadata import store
from diptych.metadata.store import raw_metadata, update_metadata
from diptych.stores import open_store
from diptych.swap import ApplyOptions
from diptych.swap.transitions import write
from small_server import Routes

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
GONE = "http://127.0.0.1:9"
Nodes = tuple[QdrantBase, Routes]


@pytest.fixture
def nodes(small_server: Callable[..., Routes]) -> Iterator[Nodes]:
    """A client of two nodes, and the node that it is not using."""
    first = small_server()
    second = small_server(store=first.store)
    client = open_store([first.url, second.url])
    client.create_collection("c", vectors_config={}, metadata={"old": 1})
    second.earlier = {"old": 1}
    yield client, second
    client.close()


def test_a_change_is_over_when_every_node_shows_it(nodes: Nodes) -> None:
    client, second = nodes
    second.behind = 4
    assert update_metadata(client, "c", {"new": {"a": [1, 0.1]}, "old": None}) == {"new": {"a": [1, 0.1]}}
    assert second.behind == 0


def test_a_change_that_a_node_does_not_show_in_time_is_an_error(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    client, second = nodes
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    second.behind = 1_000_000
    with pytest.raises(StoreUnavailable, match="acknowledged a change of the metadata and does not show it") as caught:
        update_metadata(client, "c", {"new": 1})
    assert "new for 0 s" in str(caught.value)
    assert "each of the 2 nodes that answer" in str(caught.value)


def test_a_node_that_does_not_answer_is_not_waited_for(small_server: Callable[..., Routes]) -> None:
    client = open_store([small_server().url, GONE])
    client.create_collection("c", vectors_config={}, metadata={})
    assert update_metadata(client, "c", {"new": 1})["new"] == 1
    client.close()


def test_a_copy_is_over_when_every_node_shows_it(nodes: Nodes) -> None:
    client, second = nodes
    source = QdrantClient(":memory:")
    source.create_collection("s", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    source.upsert("s", [models.PointStruct(id=1, vector=[1.0], payload={"n": 1})])
    second.behind = 4
    assert copy_collection(source, "s", client, "copy").points == 1
    assert second.behind == 0


def test_a_change_made_from_an_older_state_is_refused(fakes: Registry) -> None:
    config = Config.model_validate({"store": "memory:", "collection": "c", "slots": SLOTS})
    other = Config.model_validate({**config.model_dump(), "slots": {"dense": {**SLOTS["dense"], "seed": 1}}})
    with Collection.open(config, registry=fakes) as collection:
        collection.populate([{"id": "1", "text": "a text"}])
        client, before = collection.client, collection.handle.read()
        collection.apply(other, ApplyOptions(gate=False))
        kept = raw_metadata(client, "c")
        with pytest.raises(SwapError, match="changed by another process meanwhile") as caught:
            write(client, "c", before, before.model_copy(update={"previous": None}))
        assert "got: 'cut over' by" in str(caught.value)
        assert raw_metadata(client, "c") == kept
