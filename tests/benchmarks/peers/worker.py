"""Runs in a peer's environment: does what the parent asks on standard input and answers on standard output, in JSON.

    python -m peers.worker langchain 2        (in tests/benchmarks; peer and number of cores)

A line in is {"do": ..., ...}, a line out {"answer": ...} or {"error": ...}. Whatever is timed is timed here, around the
work alone. Only the standard library, numpy and what the peer's environment has are used.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODULES: Mapping[str, str] = {
    "diptych": "peers.with_diptych",
    "sentence-transformers": "peers.with_sentence_transformers",
    "fastembed": "peers.with_fastembed",
    "langchain": "peers.with_langchain",
    "llama-index": "peers.with_llama_index",
    "haystack": "peers.with_haystack",
}


class Worker:
    """What it can be asked. A peer is loaded once or several times, under names of the parent's choice."""

    def __init__(self, name: str, threads: int) -> None:
        self._module: Any = importlib.import_module(MODULES[name])
        self._threads = threads
        self._loaded: dict[str, Any] = {}

    def load(self, way: str, model: str, kind: str, options: Mapping[str, Any]) -> str:
        """What it runs as, for peers that say so."""
        self._loaded[way] = self._module.Peer(model, kind=kind, threads=self._threads, options=options)
        return str(getattr(self._loaded[way], "numerics", ""))

    def versions(self) -> dict[str, str]:
        return {package: version(package) for package in self._module.PACKAGES}

    def encode(self, way: str, inputs: Sequence[Any]) -> float:
        """Seconds of encoding documents, or of scoring pairs."""
        with timed() as took:
            self._loaded[way].encode(inputs)
        return took[0]

    def vectors(self, way: str, inputs: Sequence[Any], into: str) -> None:
        """Write what encoding gives to a .npy file."""
        import numpy as np

        peer = self._loaded[way]
        np.save(into, np.asarray(getattr(peer, "array", list)(peer.encode(inputs)), np.float32))

    def populate(self, way: str, texts: Sequence[str]) -> float:
        """Seconds from texts to a new collection that holds them."""
        self._loaded[way].new()
        with timed() as took:
            self._loaded[way].populate(texts)
        held = self._loaded[way].count()
        if held != len(texts):
            raise ValueError(f"the collection holds {held} points, not {len(texts)}")
        return took[0]

    def fill(self, way: str, texts: Sequence[str], vectors: str) -> float:
        """Seconds of writing stored vectors; the point of row i has text i, and the texts are gone through again."""
        import numpy as np

        rows = np.load(vectors, mmap_mode="r")
        self._loaded[way].new()
        with timed() as took:
            self._loaded[way].fill(texts, rows)
        return took[0]

    def query(self, way: str, queries: Sequence[str], limit: int) -> dict[str, list[Any]]:
        """Seconds and the found documents' numbers of each query, asked one after another."""
        seconds, found = [], []
        for query in queries:
            begin = time.perf_counter()
            answer = self._loaded[way].query(query, limit)
            seconds.append(time.perf_counter() - begin)
            found.append([int(number) for number in answer])
        return {"seconds": seconds, "found": found}

    def memory(self) -> float:
        """The most memory that this process had so far, in MB, as Linux counts it."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that has the seconds of the block afterwards; rubbish of before is not collected inside it."""
    took: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    yield took
    took.append(time.perf_counter() - begin)


def bind(threads: int) -> None:
    """Let this process run on so many cores only, whatever its libraries think of."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def serve(asked: Mapping[str, Any], worker: Worker) -> dict[str, Any]:
    try:
        action: Callable[..., Any] = getattr(worker, asked["do"])
        return {"answer": action(**{key: value for key, value in asked.items() if key != "do"})}
    except Exception as error:  # whatever a peer raises is told to the parent
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print must not stand between the answers
        bind(threads)
        worker = Worker(name, threads)
        for line in sys.stdin:
            answers.write(json.dumps(serve(json.loads(line), worker)) + "\n")
            answers.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
