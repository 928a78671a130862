"""The cache keeps to its size, and drops what was not used for longest."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.slots.cache import EmbeddingCache, Namespace
from diptych.slots.encode import Vector

MakeNamespace = Callable[..., Namespace]
WIDTH = 2000  # 8 kB a vector
MINUTE = 60.0


def vectors_of(inputs: Sequence[str]) -> list[Vector]:
    return [np.full(WIDTH, float(text.split()[-1]), np.float32) for text in inputs]


def texts(first: int, last: int) -> list[str]:
    return [f"document {n}" for n in range(first, last)]


def kept(space: Namespace, inputs: Sequence[str]) -> int:
    """How many of the inputs the cache has."""
    before = space.hits
    space.encode(inputs, vectors_of)
    return space.hits - before


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("width", [3, 40, 384, 1024, 5000])
def test_the_bound_holds_whatever_the_size_of_a_vector(
    cache: EmbeddingCache, namespace: MakeNamespace, width: int
) -> None:
    space, largest = namespace(cache), 0
    count = min(60_000, 24_000_000 // (4 * width + 60))
    for first in range(0, count, 1000):
        space.encode(texts(first, first + 1000), lambda some: [np.ones(width, np.float32) for _ in some])
        largest = max(largest, on_disk(cache.folder))
    assert (0.7 * cache.limit if width > 1000 else 0) < largest <= cache.limit
    assert cache.take_warnings() == []


def test_threads_share_a_cache_that_is_full(cache: EmbeddingCache, namespace: MakeNamespace) -> None:
    space = namespace(cache)

    def work(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(40):
            first = order.randrange(3000)
            for text, vector in zip(wanted := texts(first, first + 50), space.encode(wanted, vectors_of), strict=True):
                assert np.asarray(vector)[7] == float(text.split()[-1])

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, seed) for seed in range(4)]:
            done.result()
    assert space.hits + space.misses == 4 * 40 * 50
    assert space.hits > 1000
    assert cache.take_warnings() == []


def test_what_was_not_used_for_longest_is_dropped_first(
    cache: EmbeddingCache, namespace: MakeNamespace, clock: Any
) -> None:
    space = namespace(cache)
    for first in range(0, 1200, 300):  # four ages, 2.4 MB each
        space.encode(texts(first, first + 300), vectors_of)
        clock.now += 20 * MINUTE
    space.encode(texts(0, 300), vectors_of)  # the oldest ones are used again
    clock.now += 20 * MINUTE
    space.encode(texts(2000, 2700), vectors_of)  # 5.6 MB more than fit
    assert kept(space, texts(0, 300)) == 300
    assert kept(space, texts(300, 600)) < 100


def test_a_smaller_limit_shrinks_the_file(
    cache: EmbeddingCache, folder: Path, namespace: MakeNamespace, clock: Any
) -> None:
    cache.close()
    with EmbeddingCache(folder, limit=60_000_000, clock=clock) as large:
        space = namespace(large)
        for first in range(0, 5000, 500):
            space.encode(texts(first, first + 500), vectors_of)
    assert on_disk(folder) > 40_000_000
    space = namespace(cache)
    with watched_journal(folder) as sizes:
        space.encode(texts(9000, 9100), vectors_of)
    assert max(sizes) < 8_000_000  # though 40 MB are dropped
    cache.close()
    assert on_disk(folder) <= cache.limit
    space = namespace(cache)
    assert kept(space, texts(9000, 9100)) == 100
    assert kept(space, texts(4900, 5000)) == 100
    assert kept(space, texts(0, 100)) == 0


@contextmanager
def watched_journal(folder: Path) -> Iterator[list[int]]:
    """The sizes that the journal has meanwhile."""
    sizes, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            with suppress(FileNotFoundError):
                sizes.extend(path.stat().st_size for path in folder.glob("*-journal"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def test_a_vector_too_large_for_the_cache_is_left_out(cache: EmbeddingCache, namespace: MakeNamespace) -> None:
    space = namespace(cache)
    huge = np.ones(2_000_000, np.float32)
    for _ in range(2):
        found = space.encode(
            ["huge", "document 1"], lambda some: [huge if text == "huge" else huge[:8] for text in some]
        )
        assert [len(vector) for vector in found] == [2_000_000, 8]
    assert (space.hits, space.misses) == (1, 3)
    assert cache.take_warnings() == []


READING = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("BEGIN")
print(base.execute("SELECT count(*) FROM entries").fetchone()[0], flush=True)
sys.stdin.readline()
base.execute("COMMIT")
"""


def test_writes_wait_for_a_process_that_reads_and_none_is_dropped(
    cache: EmbeddingCache, namespace: MakeNamespace
) -> None:
    """As on a busy machine, which stops a process within a read."""
    space = namespace(cache)
    space.encode(texts(0, 10), vectors_of)
    command = [sys.executable, "-c", READING, str(cache.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        reader.stdout.readline()
        ending = threading.Timer(0.5, lambda: reader.communicate("\n"))
        ending.start()
        for first in range(0, 900, 100):
            space.encode(texts(first, first + 100), vectors_of)
        ending.join()
    assert kept(space, texts(0, 900)) == 900
    assert cache.take_warnings() == []
