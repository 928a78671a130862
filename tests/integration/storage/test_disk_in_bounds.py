"""Many populates and deletions in one process: disk, memory and files that an embedded store takes stay in bounds."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin
from diptych_edge.health.wal import allocated

FLOOR = 24 << 20  # bytes: a small store has a log of 1 to 3 MB, twice while it is optimised; docs/stores.md says so


def document(number: int, turn: int) -> dict[str, object]:
    """Some 4 kB that no compression makes smaller."""
    noise = random.Random(f"{number} {turn}").randbytes(2000).hex()
    return {"id": str(number), "text": f"word{number % 97} of version{turn}", "noise": noise}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_populates_and_deletions_in_one_process_keep_the_disk_in_bounds(on_disk: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 128}, "words": {"adapter": "fake-sparse"}}
    config = parse_config(
        {"store": f"edge:{on_disk}/edge", "collection": "c", "slots": slots, "cache": {"enabled": False}}
    )
    chance, most, memory, files = random.Random(0), 0, [0], [0]
    with Collection.open(config, registry=Registry(fakes_plugin, installed=False)) as collection:
        collection.populate(document(number, 0) for number in range(3000))
        for turn in range(1, 46):  # each document is written anew four and a half times
            chosen = chance.sample(range(3000), 300)
            if turn % 3 == 0:
                collection.delete([str(number) for number in chosen])
            collection.populate(document(number, turn) for number in chosen)
            most = max(most, allocated(on_disk / "edge"))
            if Path("/proc/self/statm").exists() and turn in (9, 45):  # warm, and at the end
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
                files.append(len(os.listdir("/proc/self/fd")))
        assert collection.count() == 3000
        client: Any = collection.handle.client  # a server's client has no such method
        client.optimize("c")
    live = allocated(on_disk / "edge")
    report = f"live {live / 1e6:.1f} MB, most {most / 1e6:.1f} MB"
    print(report)
    assert memory[-1] - memory[1 % len(memory)] < 100 << 20, memory
    assert files[-1] <= files[1 % len(files)] + 8, files  # some come and go with an optimisation
    assert 3 * live > FLOOR
    assert most <= 3 * live, report
