"""What an embedded store in another process costs: each call in the holder and over its socket, in one run."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models

from diptych_edge import EdgeClient, SharedEdgeClient

POINTS, DIM, BATCH = 5_000, 384, 256
HOLD = "import sys; from diptych_edge import EdgeClient; c = EdgeClient(sys.argv[1]); print(1, flush=True); input()"
Call = Callable[[Any, int], object]


def main() -> None:
    """Print milliseconds a call, in the process and over the socket, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    vectors = np.random.default_rng(0).normal(size=(POINTS, DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        with EdgeClient(path) as own:
            fill(own, vectors)
            here = {name: measured(call, own, rounds) for name, call in calls(vectors).items()}
        with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=-1, stdout=-1, text=True) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            with SharedEdgeClient(path) as shared:
                assert not shared.is_holder
                there = {name: measured(call, shared, rounds) for name, call in calls(vectors).items()}
            holder.communicate("\n")
    for name, seconds in here.items():
        print(f"{name:24} {1e3 * seconds:8.2f} ms {1e3 * there[name]:8.2f} ms {there[name] / seconds:6.1f} times")


def fill(client: EdgeClient, vectors: np.ndarray) -> None:
    """A collection of `vectors` with an index."""
    client.create_collection("c", {"d": models.VectorParams(size=DIM, distance=models.Distance.COSINE)})
    client.upload_collection("c", {"d": vectors}, [{"text": "x" * 300}] * len(vectors), ids=range(len(vectors)))
    client.optimize("c")


def calls(vectors: np.ndarray) -> dict[str, Call]:
    """What is measured, by name."""

    def search(client: Any, number: int) -> object:
        return client.query_points("c", vectors[number].tolist(), using="d", limit=10, with_payload=True)

    def upsert(client: Any, number: int) -> object:
        rows = range(number * 7 % 1000, number * 7 % 1000 + BATCH)
        make = models.PointStruct.model_construct
        return client.upsert("c", [make(id=i, vector={"d": vectors[i]}, payload={"text": "x" * 300}) for i in rows])

    def retrieve(client: Any, number: int) -> object:
        return client.retrieve("c", list(range(number, number + BATCH)))

    return {"search, 10 hits": search, f"upsert, {BATCH} points": upsert, f"retrieve, {BATCH} points": retrieve}


def measured(call: Call, client: Any, rounds: int) -> float:
    """Seconds of a call, the median."""
    call(client, 0)
    times = []
    for number in range(rounds):
        begin = time.perf_counter()
        call(client, number)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
