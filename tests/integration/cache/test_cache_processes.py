"""Several processes use one cache at a time, and are killed while they do."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint
from diptych.slots.cache import EmbeddingCache, Namespace
from diptych.slots.cache_table import FILE

LIMIT, WIDTH, SIZE = 16_000_000, 1000, 3000  # 4 kB a vector: 12 MB of one process, 36 MB of three
PROGRAM = f"""
import random, sys
import numpy as np
from pathlib import Path
from diptych.slots.cache import EmbeddingCache
from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint

folder, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
said = Generation(number=1, vector="v", kind="dense", adapter="a", options={{}}, space="s", numerics="n")

def vectors_of(inputs):
    return [np.full({WIDTH}, float(text), np.float32) for text in inputs]

with EmbeddingCache(folder, limit={LIMIT}) as cache:
    space, order = cache.namespace(said, Fingerprint("s", "n")), random.Random(seed)
    print("ready", flush=True)
    for _ in range(rounds):
        first = order.randrange({SIZE}) + {SIZE} * (seed % 3)
        texts = [str(number) for number in range(first, first + 100)]
        for text, vector in zip(texts, space.encode(texts, vectors_of), strict=True):
            assert vector.shape == ({WIDTH},) and (vector == float(text)).all(), text
    print(space.hits, space.misses, cache.take_warnings(), flush=True)
"""


FORKING = f"""
import os, sys
import numpy as np
from pathlib import Path
from diptych.slots.cache import EmbeddingCache
from diptych.metadata.models import Generation
from diptych.protocols import Fingerprint

said = Generation(number=1, vector="v", kind="dense", adapter="a", options={{}}, space="s", numerics="n")

def encode(space, first):
    texts = [str(number) for number in range(first, first + 200)]
    found = space.encode(texts, lambda inputs: [np.full({WIDTH}, float(text), np.float32) for text in inputs])
    assert all((vector == float(text)).all() for text, vector in zip(texts, found, strict=True))

with EmbeddingCache(Path(sys.argv[1]), limit={LIMIT}) as cache:
    space = cache.namespace(said, Fingerprint("s", "n"))
    encode(space, 0)
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            encode(space, 0)
            encode(space, 1000 * (1 + number))
            cache.close()
            assert (space.hits, space.misses, cache.take_warnings()) == (200, 400, []), space
            os._exit(0)
        children.append(child)
    encode(space, 500)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    for first in (0, 500, 1000, 2000, 3000):
        encode(space, first)
    assert (space.hits, space.misses, cache.take_warnings()) == (1000, 400, []), space
"""


def start(folder: Path, seed: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    return out.splitlines()[1].split(maxsplit=2)


def space_of(cache: EmbeddingCache) -> Namespace:
    said = Generation(number=1, vector="v", kind="dense", adapter="a", options={}, space="s", numerics="n")
    found = cache.namespace(said, Fingerprint("s", "n"))
    assert found is not None
    return found


def require_sound(folder: Path) -> None:
    """The file is whole, each entry has its vector, each vector its entry, and what it gives is right."""
    with closing(sqlite3.connect(folder / FILE)) as base:
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for one, other in (("entries", "vectors"), ("vectors", "entries")):
            assert (
                base.execute(f"SELECT count(*) FROM {one} WHERE id NOT IN (SELECT id FROM {other})").fetchone()[0] == 0
            )
    with EmbeddingCache(folder, limit=LIMIT) as cache:
        space = space_of(cache)
        texts = [str(number) for number in range(3 * SIZE)]
        for text, vector in zip(texts, space.encode(texts, _right), strict=True):
            assert float(np.asarray(vector)[-1]) == float(text)
        assert space.hits > 500
        assert cache.take_warnings() == []


def _right(inputs: object) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    return [np.full(WIDTH, float(text), np.float32) for text in inputs]  # type: ignore[attr-defined]


def on_disk(folder: Path) -> int:
    size = 0
    for path in folder.glob("*sqlite*"):
        with suppress(FileNotFoundError):  # a log goes with the last process that uses it
            size += path.stat().st_size
    return size


def test_processes_that_fill_and_evict_at_once_all_get_the_right_vectors(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    running = [start(folder, seed, 150) for seed in range(4)]  # the first and the last share their texts
    largest = 0
    while any(process.poll() is None for process in running):
        largest = max(largest, on_disk(folder))
        time.sleep(0.05)
    counts = [finished(process) for process in running]
    assert [int(hits) + int(misses) for hits, misses, _ in counts] == [15_000] * 4
    assert {warnings for _, _, warnings in counts} == {"[]"}
    assert all(int(hits) > 1000 for hits, _, _ in counts)
    assert 0.5 * LIMIT < largest <= LIMIT
    require_sound(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_while_it_writes_leave_a_sound_file(tmp_path: Path, seed: int) -> None:
    folder, moments = tmp_path / "cache", random.Random(seed)
    finished(start(folder, seed=9, rounds=100))
    for number in range(4):
        pair = [start(folder, seed=10 * number + other, rounds=100_000) for other in (0, 1)]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.02, 0.4))
        for process in pair:
            process.kill()
            process.communicate()
            assert process.returncode == -9
    require_sound(folder)


def test_kills_while_the_file_is_made_leave_one_that_works(tmp_path: Path) -> None:
    folder, moments = tmp_path / "cache", random.Random(3)
    for _ in range(4):
        process = start(folder, seed=0, rounds=100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.01))
        process.kill()
        process.communicate()
    assert finished(start(folder, seed=0, rounds=50))[2] == "[]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forks_of_a_process_that_uses_the_cache_use_it_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    require_sound(tmp_path / "cache")
