"""How long a hybrid search takes with each fusion on Qdrant Edge, as a ratio to RRF's time in the same run.

    python tests/benchmarks/bench_fusion.py --queries 300 --rounds 5

The documents and queries are those of examples/debian. The dense encoder is a fake of 384 numbers, so that the time is
that of the search and not of a model; the lexical slot is BM25; 100 candidates of each. Every query is put to all
fusions one after another, in an order that moves on, and none is remembered. Printed: the median milliseconds of each
fusion, and by round the ratio of its median to that of RRF. `--json FILE` keeps the ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from corpora import DEBIAN
from diptych import Collection
from diptych.config import parse_config
from diptych.evaluate import read_beir
from diptych.populate import open_source
from diptych.registry import Registry
from diptych.search import Dbsf, Fusion, Linear, Retrieve, Rrf
from diptych.testing import fakes_plugin
from figures import Figure, Result
from machine import versions

FUSIONS: dict[str, Fusion] = {
    "RRF": Rrf(),
    "DBSF": Dbsf(),
    "min-max": Linear(),
    "z-scores, missing": Linear("zscore", missing=-2.5),
    "weighted RRF": Rrf(weights={"dense": 2.0}),
}
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 384, "record": False}, "lexical": {"adapter": "bm25"}}


def measure(folder: Path, queries: Sequence[str], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of each query by fusion and round; a first round, which warms up, is left out."""
    settings = {"store": f"edge:{folder}", "collection": "bench", "slots": SLOTS, "search": {"remember": 0}}
    config = parse_config({**settings, "cache": {"enabled": False}})
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in range(rounds + 1)] for name in FUSIONS}
    names = list(FUSIONS)
    with Collection.open(config, registry=Registry(fakes_plugin)) as collection:
        collection.populate(open_source(DEBIAN / "corpus.jsonl.gz"))
        pipelines = {name: Retrieve("dense", 100) + Retrieve("lexical", 100) >> own for name, own in FUSIONS.items()}
        for number in range(rounds + 1):
            for place, query in enumerate(queries):
                for turn in range(len(names)):
                    name = names[(turn + place + number) % len(names)]
                    begin = time.perf_counter()
                    collection.search(query, pipeline=pipelines[name], limit=10)
                    seconds[name][number].append(time.perf_counter() - begin)
    return {name: own[1:] for name, own in seconds.items()}


def ratios(seconds: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    """By fusion and round, its median to that of RRF."""
    bases = [median(own) for own in seconds["RRF"]]
    return {
        name: [median(own) / base for own, base in zip(rounds, bases, strict=True)]
        for name, rounds in seconds.items()
        if name != "RRF"
    }


def result(found: dict[str, list[float]], queries: int) -> Result:
    """The ratios as figures; only the default has to reach something."""
    figures = [
        Figure("time of a search, ratio to RRF's", name, "", values, "RRF", "<= 1.1" if name == "DBSF" else "")
        for name, values in found.items()
    ]
    notes = [
        f"{queries} queries on examples/debian, 100 candidates of two slots; less is better; a fake dense encoder."
    ]
    return Result("What fusions take", figures, notes, {"diptych": versions()})


def test_every_fusion_is_measured_in_every_round(tmp_path: Path) -> None:
    seconds = measure(tmp_path / "store", ["convert audio files", "edit text"], 2)
    assert {name: [len(own) for own in rounds] for name, rounds in seconds.items()} == {
        name: [2, 2] for name in FUSIONS
    }
    assert set(ratios(seconds)) == set(FUSIONS) - {"RRF"}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    queries = [query.text for query in read_beir(DEBIAN)[0]][: options.queries]
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder) / "store", queries, options.rounds)
    found = ratios(seconds)
    for name, rounds in seconds.items():
        times = [value for own in rounds for value in own]
        share = found.get(name, [1.0])
        span = f"{median(share):.3f} [{min(share):.3f}, {max(share):.3f}]"
        print(f"{name:18} {1000 * median(times):6.2f} ms, ratio to RRF {span}, n={len(times)}")
    result(found, len(queries)).write(options.json)


if __name__ == "__main__":
    main()
