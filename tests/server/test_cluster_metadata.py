"""Metadata that was written is seen at every node, and one of many processes takes the lease, on three nodes.

    DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant pytest -s tests/server/test_cluster_metadata.py

It also prints how often, and for how long, a node shows metadata from before a change that another has acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext

import pytest
from qdrant_client.client_base import QdrantBase

from diptych.errors import ApplyRunning
from diptych.metadata.store import CLAIM, raw_metadata, update_metadata
from diptych.stores import open_store
from diptych.swap import lease as leases
from diptych.swap.lease import Lease
from qdrant_process import QdrantProcess

WRITES, ROUNDS, RIVALS = 60, 10, 6
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(0)]


@pytest.fixture
def alone(nodes: list[QdrantProcess]) -> Iterator[list[QdrantBase]]:
    """A client of each node alone; each node knows a collection `c`."""
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(open_store(node.url))) for node in nodes]
        clients[0].create_collection("c", vectors_config={}, metadata={"diptych": {}})
        yield clients


def staleness(writer: QdrantBase, reader: QdrantBase, number: int) -> float:
    """Milliseconds for which the reader's node does not show what the writer's has acknowledged; 0 where it does."""
    writer.update_collection("c", metadata={"number": number})
    acknowledged = time.perf_counter()
    looks = 0
    while raw_metadata(reader, "c").get("number") != number:
        looks += 1
    return (time.perf_counter() - acknowledged) * 1000 if looks else 0.0


def test_a_change_is_seen_at_every_node_when_it_is_over(nodes: list[QdrantProcess], alone: list[QdrantBase]) -> None:
    for place, writer in enumerate(alone):
        for where, reader in enumerate(alone):
            found = [staleness(writer, reader, n) for n in range(WRITES)]
            late = sorted(ms for ms in found if ms)
            longest = f", {late[len(late) // 2]:.0f} ms in the median, {late[-1]:.0f} at most" if late else ""
            print(f"written at node {place}, read at node {where}: {len(late)} of {WRITES} reads old{longest}")
    urls = [node.url for node in nodes]
    for turn in range(3):
        with closing(open_store(urls[turn:] + urls[:turn])) as client:
            for n in range(WRITES):
                update_metadata(client, "c", {"number": {"turn": turn, "n": n}})
                assert [raw_metadata(own, "c")["number"] for own in alone] == [{"turn": turn, "n": n}] * 3


def test_one_of_many_processes_that_start_at_once_holds_the_lease(
    nodes: list[QdrantProcess], alone: list[QdrantBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_taking", nullcontext())  # which only threads of one process share
    urls = [node.url for node in nodes]
    for _ in range(ROUNDS):
        held, refused = list[int](), list[int]()
        start, over = threading.Barrier(RIVALS), threading.Event()

        def take(
            number: int, held: list[int], refused: list[int], start: threading.Barrier, over: threading.Event
        ) -> None:
            turn = number % 3
            with closing(open_store(urls[turn:] + urls[:turn])) as client:
                start.wait()
                try:
                    with Lease(client, "c"):
                        held.append(number)
                        over.wait(60)
                except ApplyRunning:
                    refused.append(number)
                    if len(refused) == RIVALS - 1:
                        over.set()

        threads = [threading.Thread(target=take, args=(n, held, refused, start, over)) for n in range(RIVALS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(held), len(refused)) == (1, RIVALS - 1)
        for client in alone:
            assert [key for key in raw_metadata(client, "c") if key.startswith(CLAIM)] == []
