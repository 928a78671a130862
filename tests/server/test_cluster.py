"""Nothing is lost and no search fails when a cluster's nodes are killed, one at a time, under populates and swaps.

    DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant DIPTYCH_TEST_CRASHES=20 pytest tests/server/test_cluster.py

DIPTYCH_TEST_CRASHES is how many nodes are killed, 2 unless given.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from crash_trial import REGISTRY, UNGATED, Writer, compare, slots
from diptych import Collection
from diptych.config.models import Config
from diptych.errors import DiptychError
from diptych.stores import open_store_of
from qdrant_process import QdrantProcess

KILLS = int(os.environ.get("DIPTYCH_TEST_CRASHES", "2"))
SETTLED = 120.0  # seconds until all replicas must be active again
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(0)]


def config(nodes: list[QdrantProcess], seed: int, *, grpc: bool = False) -> Config:
    return Config.model_validate(
        {
            "store": [node.grpc_url if grpc else node.url for node in nodes],
            "collection": "c",
            "slots": slots(seed),
            "populate": {"chunk": 64},
            "cluster": {"shards": 3, "replicas": 2},
        }
    )


def settle(client: Any) -> None:
    """Wait until every replica is active."""
    due = time.monotonic() + SETTLED
    while True:
        found = client.collection_cluster_info("c")
        states = {shard.state.value for shard in [*found.local_shards, *found.remote_shards]}
        if states == {"Active"} and not found.shard_transfers:
            return
        assert time.monotonic() < due, states
        time.sleep(0.5)


def swaps(nodes: list[QdrantProcess], over: threading.Event) -> None:
    """Swaps in a row, with a way back or without; what a dead node ends is begun again."""
    chance, seed = random.Random(7), 0
    while not over.is_set():
        try:
            with Collection.stored(config(nodes, seed), registry=REGISTRY) as collection:
                collection.apply(config(nodes, seed + 1), UNGATED, stopped=over)
                if chance.random() < 0.5:
                    collection.finish()
                else:
                    collection.rollback()
                    collection.rollback()
            seed += 1
        except DiptychError:
            time.sleep(0.5)


class Searcher:
    """Searches without an end, in a thread.

    `asked` counts them, `longest` is the most seconds that one took, `failed` says what each one that failed met.
    """

    def __init__(self, config: Config) -> None:
        self.asked, self.longest, self.failed = 0, 0.0, list[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(config,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self, config: Config) -> None:
        with Collection.stored(config, registry=REGISTRY) as collection:
            while not self._over.is_set():
                self.asked, begin = self.asked + 1, time.monotonic()
                try:
                    if not collection.search(f"word{self.asked % 17}", limit=5):
                        self.failed.append("no hit")
                except DiptychError as error:
                    self.failed.append(str(error))
                self.longest = max(self.longest, time.monotonic() - begin)


def test_no_document_is_lost_when_nodes_are_killed_one_at_a_time(nodes: list[QdrantProcess]) -> None:
    writer, over, chance = Writer(config(nodes, 0), 1), threading.Event(), random.Random(1)
    writer.first()
    writer.start()
    swapping = threading.Thread(target=swaps, args=(nodes, over), daemon=True)
    swapping.start()
    searchers = {way: Searcher(config(nodes, 0, grpc=way == "gRPC")) for way in ("HTTP", "gRPC")}
    with closing(open_store_of(config(nodes, 0))) as client:
        for _ in range(KILLS):
            time.sleep(chance.uniform(1, 4))
            node = chance.choice(nodes)
            node.kill()
            time.sleep(chance.uniform(0, 3))
            node.start()
            settle(client)
        for searcher in searchers.values():
            searcher.stop()
        over.set()
        swapping.join()
        writer.stop()
        settle(client)
    assert writer.ended is None, writer.ended
    for way, searcher in searchers.items():
        assert not searcher.failed, (way, searcher.asked, searcher.failed)
        assert searcher.asked > KILLS, way
        print(f"{way}: {searcher.asked:,} searches, the longest took {searcher.longest:.2f} s")
    for node in nodes:
        found = compare(node.url, writer)
        assert not found.faults, found
    print(f"{KILLS} nodes killed, {found.compared:,} acknowledged documents")
