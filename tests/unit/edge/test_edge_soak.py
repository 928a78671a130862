"""Long lives and many kills: disk, memory and files stay in bounds, and nothing acknowledged is lost.

DIPTYCH_SOAK_SECONDS says how long the soak takes, DIPTYCH_EDGE_KILLS how often a writer is killed.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych_edge import EdgeClient
from diptych_edge.health.wal import allocated

SECONDS = float(os.environ.get("DIPTYCH_SOAK_SECONDS", "20"))
KILLS = int(os.environ.get("DIPTYCH_EDGE_KILLS", "3"))
FLOOR = 24 << 20  # bytes: a small store has a log of 1 to 3 MB, twice while it is optimised; docs/stores.md says so
Start = Callable[[str], subprocess.Popen[str]]

SOAK = """
    import time
    def point(i, turn):
        words = models.SparseVector(indices=[i % 97, 100 + turn % 50], values=[1.0, 2.0])
        payload = {{"i": i, "text": "x" * 400, "turn": turn}}
        vector = {{"d": rng.normal(size=128), "w": words}}
        return models.PointStruct.model_construct(id=i, vector=vector, payload=payload)
    rng = np.random.default_rng(0)
    dense = {{"d": models.VectorParams(size=128, distance=models.Distance.COSINE)}}
    client = EdgeClient(folder)
    client.create_collection("docs", dense, sparse_vectors_config={{"w": models.SparseVectorParams()}})
    for first in range(0, 3000, 500):
        client.upsert("docs", [point(i, 0) for i in range(first, first + 500)])
    end, turn = time.monotonic() + {seconds}, 0
    while time.monotonic() < end:
        turn += 1
        chosen = [int(i) for i in rng.choice(3000, 50, replace=False)]
        if turn % 5 == 0:
            client.delete("docs", chosen)
        client.upsert("docs", [point(i, turn) for i in chosen])
        client.query_points("docs", rng.normal(size=128).tolist(), using="d", limit=5)
        if turn % 20 == 0:
            pages = int(open("/proc/self/statm").read().split()[1])
            print(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), flush=True)
    client.close()
    """


@pytest.fixture
def folder(on_disk: Path) -> Path:
    """Not in memory, since sizes on disk are looked at."""
    return on_disk / "edge"


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, which tells what a process holds")
@pytest.mark.timeout(SECONDS + 600)
def test_updates_for_a_long_time_keep_disk_memory_and_files_in_bounds(start: Start, folder: Path) -> None:
    running = start(SOAK.format(seconds=SECONDS))
    assert running.stdout is not None
    held: list[tuple[int, int]] = []
    most = 0
    while line := running.stdout.readline():
        memory, files = map(int, line.split())
        held.append((memory, files))
        most = max(most, allocated(folder))
    assert running.wait(120) == 0
    with EdgeClient(folder) as client:
        client.optimize("docs")
        assert client.count("docs").count == 3000
    live = allocated(folder)
    warm = held[len(held) // 5]
    grown = max(memory for memory, _ in held) - warm[0]
    disk = f"live {live / 1e6:.1f} MB, most {most / 1e6:.1f} MB"
    report = f"{disk}, memory grew by {grown >> 20} MB, files {held[0][1]}-{held[-1][1]}"
    print(report)
    assert most <= max(3 * live, FLOOR), report
    assert grown < 100 << 20, report
    assert max(files for _, files in held) <= warm[1] + 8, report  # some come and go with an optimisation


KILLED = """
    early = models.OptimizersConfigDiff(indexing_threshold=20)
    client = EdgeClient(folder)
    if not client.collection_exists("docs"):
        client.create_collection(
            "docs", {{"d": models.VectorParams(size=16, distance=models.Distance.DOT)}}, optimizers_config=early
        )
    rng = np.random.default_rng({turn})
    for turn in range({turn}, {turn} + 100_000):
        if turn % 10 == 3:
            client.optimize("docs", wait=False)
        chosen = [int(i) for i in rng.choice(2000, 40, replace=False)]
        print("delete" if turn % 4 == 1 else "write", turn, *chosen, "end", flush=True)
        if turn % 4 == 1:
            client.delete("docs", chosen)
        else:
            client.upsert("docs", [
                models.PointStruct(id=i, vector={{"d": [float(i), float(turn)] * 8}}, payload={{"turn": turn}})
                for i in chosen
            ])
        print("done", turn, "end", flush=True)
    """


State = dict[int, int]  # the turn in which each point was last written


def after(held: State, verb: str, turn: int, ids: list[int]) -> State:
    """The state after an operation."""
    if verb == "write":
        return {**held, **dict.fromkeys(ids, turn)}
    return {identifier: last for identifier, last in held.items() if identifier not in ids}


def states_of(lines: list[str], held: State) -> tuple[State, State, int]:
    """What must be there, what may be there instead, and the last turn, as told by a writer that was killed.

    The two differ by the one operation that was under way: it is done as a whole or not at all.
    """
    maybe, turn = held, 0
    for verb, number, *ids, end in (line.split() for line in lines if line.endswith("end\n")):
        assert end == "end"
        turn = int(number)
        if verb == "done":
            held = maybe
        else:
            maybe = after(held, verb, turn, [int(identifier) for identifier in ids])
    return held, maybe, turn


def read(folder: Path) -> State:
    """The turn of each point. Its vector tells the same."""
    with EdgeClient(folder) as client:
        records = client.scroll("docs", limit=10_000, with_vectors=True)[0]
        assert client.count("docs").count == len(records)
    found: State = {}
    for record in records:
        assert isinstance(record.id, int)
        assert isinstance(record.vector, dict)
        found[record.id] = int((record.payload or {})["turn"])
        assert record.vector["d"] == [float(record.id), float(found[record.id])] * 8
    assert len(list(folder.glob("collections/*/shard-*"))) == 1
    return found


@pytest.mark.slow
@pytest.mark.timeout(60 * KILLS + 300)
def test_kills_among_updates_deletions_and_exchanges_lose_nothing(start: Start, folder: Path) -> None:
    held: State = {}
    chance, turn = random.Random(0), 1
    for _ in range(KILLS):
        writer = start(KILLED.format(turn=turn))
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(chance.uniform(0.1, 2.0))
        writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
        acknowledged, maybe, last = states_of(lines, held)
        held = read(folder)
        assert held in (acknowledged, maybe), f"turn {last}: {sorted(held.items() ^ acknowledged.items())[:20]}"
        turn = last + 1
