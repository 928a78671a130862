"""Peak memory of populating 20,000 and 200,000 short documents, each in a process of its own.

    python tests/benchmarks/bench_populate_memory.py [--store edge|discard] [--slots dense lexical] [--large 200000]

`edge` is the embedded store, whose own memory is part of the figure; `discard` acknowledges and forgets all points, so
that only populate is measured. One cheap dense encoder unless `--slots` names more. The limit is 300 MB of difference;
the exit code says whether it was kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.testing import fakes_plugin
from diptych_edge import EdgeClient

LIMIT_MB = 300
SLOTS = {
    "dense": {"adapter": "fake-dense", "dimension": 64, "record": False},
    "lexical": {"adapter": "fake-calibrated", "record": False},
}


class Documents:
    """Short documents, made anew at each reading."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for i in range(self._size):
            words = " ".join(f"w{(i * 31 + k * k) % 5000}" for k in range(12))
            yield {"id": f"document-{i}", "title": f"title {i % 1000}", "text": words, "section": i % 7}


class Discard(QdrantClient):
    """A store that acknowledges points and forgets them."""

    def upsert(self, *args: Any, **kwargs: Any) -> models.UpdateResult:
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def fill(store: str, slots: list[str], size: int) -> dict[str, float]:
    """Populate once and again in this process; peaks in MB and seconds."""
    config = Config.model_validate({"collection": "c", "slots": {name: SLOTS[name] for name in slots}})
    registry = Registry(fakes_plugin, installed=False)
    with tempfile.TemporaryDirectory() as folder:
        client: QdrantBase = EdgeClient(folder) if store == "edge" else Discard(":memory:")
        start, begun = peak(), time.perf_counter()
        report = populate(CollectionHandle(client, "c", config, registry), Documents(size))
        after, seconds = peak(), time.perf_counter() - begun
        again = populate(CollectionHandle(client, "c", config, registry), Documents(size), sync=True, max_deleted=1)
        client.close()
    expected = size if store == "edge" else 0
    if (report.new, again.unchanged, again.deleted) != (size, expected, 0):
        raise SystemExit(f"not what was expected: {report} {again}")
    return {"before": start, "first": after, "second": peak(), "seconds": seconds}


def peak() -> float:
    """The most memory this process has had resident so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(store: str, slots: list[str], size: int) -> dict[str, float]:
    """`fill` in a process of its own."""
    command = [sys.executable, __file__, "--store", store, "--slots", *slots, "--fill", str(size)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def main() -> None:
    """Compare the two sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["edge", "discard"], default="edge")
    parser.add_argument("--slots", choices=list(SLOTS), nargs="+", default=["dense"])
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=200_000)
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(json.dumps(fill(options.store, options.slots, options.fill)))
        return
    small, large = (measured(options.store, options.slots, size) for size in (options.small, options.large))
    difference = large["second"] - small["second"]
    for size, found in ((options.small, small), (options.large, large)):
        rate = size / found["seconds"]
        print(
            f"{options.store}, {'+'.join(options.slots)}, {size:,} documents: {found['before']:.0f} MB before, "
            f"{found['first']:.0f} MB after the first run, {found['second']:.0f} MB after the second; "
            f"{rate:,.0f} documents/s"
        )
    print(f"difference {difference:.0f} MB, limit {LIMIT_MB} MB")
    raise SystemExit(difference > LIMIT_MB)


if __name__ == "__main__":
    main()
