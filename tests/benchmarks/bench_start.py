"""Cold start: seconds of a whole `diptych search` in a process of its own, by what runs the model.

    python tests/benchmarks/bench_start.py [--documents 300] [--rounds 5] [--json FILE]

A collection with MiniLM and BM25 is filled by each backend, and searched twice before what counts: those runs convert
the model and remember the checks that passed. Files are in the system's cache. The ways are measured in turn, so that a
machine that gets slower touches all alike. Beside the clock stands the processor time of the process and all its
threads, which other programs on the machine change less. For comparison: an empty Python process, and one that only
imports qdrant-client, without fastembed, which diptych keeps out as well.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from figures import Figure, Result
from machine import versions

CORPUS = Path(__file__).parents[2] / "examples" / "debian" / "corpus.jsonl.gz"
COMMAND = Path(sys.executable).with_name("diptych")
QUERY = "convert audio files between formats"
BACKENDS = ("torch", "openvino", "onnx")
WANTED = {"torch": "<= 4", "openvino": "<= 1.5", "onnx": "<= 1.5", "--only lexical": "<= 0.6"}
# Nothing of diptych: how slow the machine was meanwhile, and what every program with the client pays.
OTHERS = {
    "python -c pass": "pass",
    "import qdrant_client alone": "import sys; sys.modules['fastembed'] = None; import qdrant_client",
}


def filled(folder: Path, backend: str, documents: int) -> Path:
    """A folder with a config and its collection, searched twice."""
    place = folder / backend
    place.mkdir()
    slots = {
        "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", "backend": backend},
        "lexical": {"adapter": "bm25", "language": "english"},
    }
    (place / "diptych.yaml").write_text(json.dumps({"store": "edge:./store", "collection": "c", "slots": slots}))
    with gzip.open(CORPUS, "rt", encoding="utf-8") as rows:
        (place / "corpus.jsonl").write_text("".join(islice(rows, documents)), encoding="utf-8")
    for words in (["populate", "corpus.jsonl"], ["search", QUERY], ["search", QUERY]):
        seconds(place, *words)
    return place


def seconds(place: Path, *words: str) -> tuple[float, float]:
    """Seconds of a command of diptych by the clock, and by the processor."""
    return of_process(place, str(COMMAND), *words)


def of_process(place: Path, *command: str) -> tuple[float, float]:
    """Seconds of a process by the clock, and by the processor."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(place.parent / "cache")}
    environment.pop("DIPTYCH_CACHE", None)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=place, env=environment, capture_output=True, check=True)
    taken, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(documents: int, rounds: int) -> list[Figure]:
    """Figures of each way."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in (*WANTED, *OTHERS)}
    with tempfile.TemporaryDirectory() as folder:
        places = {backend: filled(Path(folder), backend, documents) for backend in BACKENDS}
        for _ in range(rounds):
            for backend, place in places.items():
                found[backend].append(seconds(place, "search", QUERY))
            for way, program in OTHERS.items():
                found[way].append(of_process(Path(folder), sys.executable, "-c", program))
            found["--only lexical"].append(seconds(places["torch"], "search", QUERY, "--only", "lexical"))
    figures = []
    for way, taken in found.items():
        clock, processor = zip(*taken, strict=True)
        wanted = WANTED.get(way, "")
        figures.append(Figure("seconds of a search in a process of its own", way, "s", clock, wanted=wanted))
        figures.append(Figure("of which processor time, all threads", way, "s", processor))
    return figures


def main() -> None:
    """Measure, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    figures = measure(options.documents, options.rounds)
    notes = [f"{options.documents} documents, all-MiniLM-L6-v2 and BM25, Edge. {os.cpu_count()} cores."]
    Result("Cold start", figures, notes, {"diptych": versions()}).write(options.json)


if __name__ == "__main__":
    main()
