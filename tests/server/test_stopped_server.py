"""A server that has stopped answering holds up nobody beyond the deadline, and is used again when it answers."""

from __future__ import annotations

from typing import cast

import pytest

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.errors import StoreUnavailable
from diptych.stores.server_client import ServerClient
from qdrant_process import QdrantProcess

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(0)]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_search_of_a_stopped_server_ends_at_the_deadline(
    server: QdrantProcess, fakes: Registry, protocol: str
) -> None:
    url = server.url if protocol == "http" else server.grpc_url
    raw = {"store": url, "collection": "c", "slots": SLOTS, "search_timeout": 1, "timeout": 600}
    with Collection.open(Config.model_validate(raw), registry=fakes) as collection:
        collection.populate([{"id": str(n), "text": f"words of number {n}"} for n in range(20)])
        found = [hit.id for hit in collection.search("number 7", limit=3)]
        with server.stopped():
            with pytest.raises(StoreUnavailable, match="the store does not answer"):
                collection.search("number 8", limit=3)
            with pytest.raises(Exception, match=r"timed out|DEADLINE_EXCEEDED"):  # the probe of a gentle back-fill
                cast("ServerClient", collection.client).search_seconds("c", 0, "dense.1", 3)
        assert [hit.id for hit in collection.search("number 7", limit=3)] == found
