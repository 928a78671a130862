"""What `diptych serve` adds to a search: requests on a kept connection and the search itself, in turn, in milliseconds.

    python tests/benchmarks/bench_service.py --points 20000 --queries 500 --rounds 5

The service is a process of its own with a copy of the collection; the search is made in this one. Both encode the same
query with an encoder of hashed words, which costs next to nothing, ask Edge for ten hits with their texts, and must
give the same ids. What is added is HTTP, JSON in and out, and the turn of the event loop; wanted is at most one
millisecond.
`--json FILE` keeps the differences of the medians by round.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin
from figures import Figure, Result
from machine import versions

WORDS = ("audio", "image", "mail", "text", "game", "library", "tool", "server", "font", "python", "kernel", "sound")
PACKAGES = ("qdrant-client", "qdrant-edge-py", "uvicorn", "starlette", "h11", "pydantic", "orjson")
SERVE = """\
import sys
from diptych import Registry
from diptych.cli import main
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
main(sys.argv[1:], session=Session(Registry(fakes_plugin, installed=False)))
"""


def config_of(folder: Path) -> dict[str, Any]:
    """A collection with one dense slot of hashed words, in a folder of its own."""
    return {
        "store": f"edge:{folder / 'qdrant'}",
        "collection": "bench",
        "slots": {"dense": {"adapter": "fake-dense", "record": False}},
        "search": {"remember": 0},
        "cache": {"enabled": False},
    }


def text_of(number: int) -> str:
    """A text of twelve words, another for each number."""
    return " ".join(f"{WORDS[(number * step) % len(WORDS)]}{number % (7 * step)}" for step in range(1, 13))


def fill(folder: Path, registry: Registry, points: int) -> None:
    """Make the collection."""
    with Collection.open(parse_config(config_of(folder)), registry=registry) as collection:
        collection.populate({"id": str(number), "text": text_of(number)} for number in range(points))


@contextmanager
def service(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to a service of the collection in this folder, ready to search."""
    (folder / "diptych.yaml").write_text(json.dumps(config_of(folder)))
    command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--json", "--quiet"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                text += process.stdout.readline()
            port = int(json.loads(text)["url"].rpartition(":")[2])
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                while answered(connection, "GET", "/readyz", None)[0] != 200:
                    time.sleep(0.1)
                yield connection
        finally:
            process.kill()


def answered(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    """Status and body of one request on the connection."""
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def measure(
    collection: Collection, connection: http.client.HTTPConnection, queries: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Seconds of each search, made here and asked of the service, in turn. Their answers must be the same."""
    here, there = [], []
    for number, query in enumerate(queries):
        body = json.dumps({"query": query}).encode()
        for turn in (0, 1) if number % 2 else (1, 0):
            begin = time.perf_counter()
            if turn:
                status, text = answered(connection, "POST", "/search", body)
                there.append(time.perf_counter() - begin)
            else:
                hits = collection.search(query)
                here.append(time.perf_counter() - begin)
        found = json.loads(text)["results"][0]["hits"]
        assert status == 200
        assert [hit["id"] for hit in found] == [hit.id for hit in hits]
    return here, there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    registry = Registry(fakes_plugin, installed=False)
    added, searches, requests = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "here", Path(folder) / "there"
        ours.mkdir()
        fill(ours, registry, options.points)
        shutil.copytree(ours, theirs)
        with (
            Collection.open(parse_config(config_of(ours)), registry=registry) as collection,
            service(theirs) as connection,
        ):
            collection.warm()
            for number in range(options.rounds + 1):  # the first warms up and does not count
                first = number * options.queries
                here, there = measure(collection, connection, [text_of(first + n)[:60] for n in range(options.queries)])
                searches.append(1000 * median(here))
                requests.append(1000 * median(there))
                added.append(requests[-1] - searches[-1])
    figures = [
        Figure("milliseconds added to a search", "service, kept connection", "ms", added[1:], "the search", "<= 1"),
        Figure("milliseconds of a request", "service, kept connection", "ms", requests[1:]),
        Figure("milliseconds of the search itself", "Python", "ms", searches[1:]),
    ]
    notes = [
        f"{options.points} documents of 12 words, fake-dense of 64 numbers, Edge, 10 hits with texts, "
        f"{options.queries} queries a round; medians of a round",
        "the client is http.client on one connection, one request at a time",
    ]
    packages = {"diptych": versions(PACKAGES)}
    Result("A request to the service", figures, notes, packages).write(options.json)


if __name__ == "__main__":
    main()
