"""Populate and back-fill on a Qdrant server beside qdrant-client's own upload, and what a search meets during a swap.

    DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant python tests/benchmarks/bench_server.py --documents 20000 --rounds 3

The binary is started on loopback with an empty folder for each round; DIPTYCH_TEST_SERVER names a running server
instead, by its HTTP address, with gRPC at the next port. Made-up documents of 12 words and 384 numbers each, whose
encoder reads its vectors from memory, so that everything else is measured.

1. Rates: documents a second of `upload_collection` with the same points: as it comes, which is over before the server
   has applied what it has taken; until the server has; with `wait=True`. And of populate, where every document is
   applied, and of the back-fill of an `apply` at full pace right after it. And of the bare client that gives each
   point a second vector, in requests like the back-fill's: what a server allows. They take turns in each round; each
   has one process. Processor time is the client's alone.
2. Searches: another process asks a query over and over, first while nothing else goes on, then during an `apply` at
   each pace and until the server has indexed the new vectors. Times are the caller's own.
3. Calls: a search, a page of a scroll and a write, of diptych beside the bare client, which take turns within each
   round. On loopback qdrant-client makes a new connection for each call over HTTP; what it does elsewhere, keeping its
   connections, is measured as well. A ratio of more than 1.3 is a regression.

No wait is without end: an `apply` is stopped, and an index no longer waited for, after `--longest` seconds each. A
figure says so.

`--json FILE` keeps the figures (figures.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from qdrant_client import QdrantClient, models

from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.payloads import hashed_point
from diptych.populate import populate
from diptych.populate.pace import IN_FLIGHT, PART
from diptych.stores import open_store
from diptych.stores.server_client import Point
from diptych.stores.versions import server_version
from diptych.swap import ApplyOptions, apply
from drawn_corpus import WIDTH, WORDS, Documents, Drawn, config_of, opened, table_in_memory, vectors
from figures import Figure, Result
from machine import versions

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from qdrant_process import BINARY, QdrantProcess  # the path has just been set

NAMED = os.environ.get("DIPTYCH_TEST_SERVER", "")
WAYS = ("gRPC", "HTTP")
LONGEST = 300.0  # seconds
WARM_UP = 500  # documents of each side that do not count
Amounts = dict[str, float]


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """Its addresses for HTTP and gRPC."""
    if not BINARY:
        address, _, port = NAMED.rpartition(":")
        yield NAMED, f"grpc{address.removeprefix('http')}:{int(port) + 1}"
        return
    with tempfile.TemporaryDirectory() as folder:
        process = QdrantProcess(Path(folder))
        process.start()
        try:
            yield process.url, process.grpc_url
        finally:
            process.kill()


class FillWatch:
    """Takes the time from the begin of a back-fill to its last document."""

    def __init__(self) -> None:
        self.begun = self.ended = self.worked = self.seconds_worked = 0.0
        self.filled = 0

    def begin(self, stage: str, total: int | None) -> None:
        if stage == "fill":
            self.begun, self.worked = time.perf_counter(), time.process_time()

    def advance(self, stage: str, n: int) -> None:
        self.filled += n
        self.ended, self.seconds_worked = time.perf_counter(), time.process_time() - self.worked


def upload(url: str, *, size: int, grpc: bool, wait: bool) -> tuple[Amounts, Amounts]:
    """Documents a second of qdrant-client's own upload, and its microseconds of processor for each.

    And the same until the server has applied what it has taken, which it does in order.
    """
    host, _, port = url.partition("//")[2].rpartition(":")
    ports: dict[str, Any] = {"grpc_port": int(port), "prefer_grpc": True} if grpc else {"port": int(port)}
    rows, payloads = vectors(range(size)), [payload(number) for number in range(size)]
    ids = [hashed_point(str(number)) for number in range(size)]
    with closing(QdrantClient(host=host, check_compatibility=False, **ports)) as client:
        made_anew(client)
        client.create_collection("c", {"dense.1": models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)})
        begin, worked = time.perf_counter(), time.process_time()
        client.upload_collection("c", {"dense.1": rows}, payloads, ids, wait=wait)
        sent = amounts(size, time.perf_counter() - begin, time.process_time() - worked)
        client.set_payload("c", {"last": True}, [ids[0]], wait=True)
        return sent, amounts(size, time.perf_counter() - begin, time.process_time() - worked)


def updated(url: str, *, size: int) -> Amounts:
    """The same of a second vector for points that have just been uploaded: `update_vectors` through diptych's client.

    It takes numpy arrays as they are, so that the server is what limits the rate.
    """
    ids, rows = [hashed_point(str(number)) for number in range(size)], vectors(range(size))
    dense = models.DenseVectorConfig(size=WIDTH, distance=models.Distance.COSINE)
    with closing(open_store(url)) as client, ThreadPoolExecutor(IN_FLIGHT) as threads:
        client.create_vector_name("c", "dense.2", models.DenseVectorNameConfig(dense=dense))
        begin, worked = time.perf_counter(), time.process_time()

        def send(start: int) -> None:
            part = range(start, min(size, start + PART))
            points: Any = [Point(ids[number], {"dense.2": rows[number]}) for number in part]
            client.update_vectors("c", points)

        list(threads.map(send, range(0, size, PART)))
        return amounts(size, time.perf_counter() - begin, time.process_time() - worked)


def payload(number: int) -> dict[str, Any]:
    return {"text": f"document {number:010d} {WORDS}", "_diptych": {"id": str(number), "hash": "0" * 32}}


def populated(url: str, *, size: int) -> tuple[Amounts, Amounts]:
    """The same of populate, and of a back-fill at full pace afterwards."""
    with closing(open_store(url)) as client:
        made_anew(client)
        Drawn.worked = 0.0
        handle, begin, worked = opened(client, "drawn"), time.perf_counter(), time.process_time()
        report = populate(handle, Documents(size))
        first = amounts(report.new, time.perf_counter() - begin, time.process_time() - worked - Drawn.worked)
        watch, Drawn.worked = FillWatch(), 0.0
        swap(handle, "full", watch, LONGEST)
        return first, amounts(size, watch.ended - watch.begun, watch.seconds_worked - Drawn.worked)


def swap(handle: CollectionHandle, pace: Any, watch: FillWatch, longest: float) -> bool:
    """Apply; whether that ended within so many seconds, after which it is stopped."""
    options, stopped = ApplyOptions(gate=False, again=frozenset({"dense"}), later=True), threading.Event()
    timer = threading.Timer(longest, stopped.set)
    timer.start()
    config = config_of("drawn")
    config = config.model_copy(update={"swap": config.swap.model_copy(update={"pace": pace})})
    report = apply(handle, config, options, progress=watch, stopped=stopped)
    timer.cancel()
    if not stopped.is_set() and (report.outcome != "cut over" or report.missing):
        raise SystemExit(f"not what was expected: {report}")
    return not stopped.is_set()


def amounts(size: int, seconds: float, worked: float) -> Amounts:
    return {"rate": size / seconds, "processor": 1e6 * worked / size}


def made_anew(client: Any) -> None:
    client.delete_collection("c")


def rates(size: int, rounds: int) -> list[Figure]:
    """What a document takes on each side, each way."""
    found: dict[tuple[str, str], list[Amounts]] = {}
    for number in range(rounds + 1):
        for way in WAYS:
            with server() as urls:
                url = urls[WAYS.index(way) == 0]
                count = size if number else WARM_UP
                bare = upload(url, size=count, grpc=way == "gRPC", wait=False)
                waiting, _ = upload(url, size=count, grpc=way == "gRPC", wait=True)
                second = updated(url, size=count)
                own = populated(url, size=count)
            if number:
                for side, one in zip(SIDES, [*bare, waiting, second, *own], strict=True):
                    found.setdefault((way, side), []).append(one)
                    print(f"{way}, {side}: {one['rate']:.0f}/s, {one['processor']:.1f} us", flush=True)
    return [figure for way in WAYS for figure in compared(way, {side: found[way, side] for side in SIDES})]


SIDES = UPLOAD, APPLIED, WAITING, UPDATE, POPULATE, FILL = (
    "upload_collection",
    "upload_collection, until it is applied",
    "upload_collection, wait=True",
    "update_vectors",
    "populate",
    "back-fill",
)


def compared(way: str, found: dict[str, list[Amounts]]) -> Iterator[Figure]:
    """The figures of one way: ratios of rates by round, and all amounts."""
    goal = way == "gRPC"  # which is what the goals are for; over HTTP a document is larger and no goal is set

    def ratio(ours: str, theirs: str, wanted: str) -> Figure:
        values = [a["rate"] / b["rate"] for a, b in zip(found[ours], found[theirs], strict=True)]
        return Figure("documents a second", f"{ours}, {way}", "ratio", values, theirs, wanted)

    yield ratio(POPULATE, UPLOAD, ">= 0.8" if goal else "")
    yield ratio(POPULATE, APPLIED, "")
    yield ratio(POPULATE, WAITING, "")
    yield ratio(FILL, POPULATE, ">= 0.8")
    yield ratio(FILL, UPDATE, "")
    more = [a["processor"] - b["processor"] for a, b in zip(found[POPULATE], found[UPLOAD], strict=True)]
    name = "microseconds of processor a document beyond the bare upload"
    yield Figure(name, f"{POPULATE}, {way}", "microseconds", more, wanted="<= 25" if goal else "")
    for side, rows in found.items():
        yield Figure("documents a second", f"{side}, {way}", "a second", [row["rate"] for row in rows])
        what = "microseconds of client processor a document"
        yield Figure(what, f"{side}, {way}", "microseconds", [row["processor"] for row in rows])


def searches(size: int, quiet: float, longest: float) -> list[Figure]:
    """What a caller who asks all the time meets: before a swap, and during one at each pace."""
    found = {}
    for pace in ("gentle", "full"):
        with server() as urls, closing(open_store(urls[1])) as client:
            made_anew(client)
            handle = opened(client, "drawn")
            populate(handle, Documents(size))
            indexed(client, longest)
            with asking(urls[1]) as times:
                time.sleep(quiet)
                marks, watch = [time.time()], FillWatch()
                ended = swap(handle, pace, watch, longest)
                marks.append(time.time())
                ended = indexed(client, longest) and ended
                marks.append(time.time())
            found[pace] = (times, marks, watch, ended)
    return [figure for pace, one in found.items() for figure in met(pace, *one)]


def met(
    pace: str, times: list[tuple[float, float]], marks: list[float], watch: FillWatch, ended: bool
) -> Iterator[Figure]:
    parts = {
        "quiet": [took for at, took in times if at < marks[0]],
        "during apply": [took for at, took in times if marks[0] <= at < marks[1]],
        "until indexed": [took for at, took in times if marks[1] <= at < marks[2]],
    }
    good = {name: [took for took in part if took >= 0] for name, part in parts.items()}
    known = {name: np.percentile(part, [50, 99]) * 1e3 for name, part in good.items() if part}
    wanted = "<= 3" if pace == "gentle" and ended else ""  # a stopped apply shows only its beginning
    if "during apply" in known:
        for at, name in enumerate(("p50", "p99")):
            value = [known["during apply"][at] / known["quiet"][at]]
            yield Figure(f"{name} of a search during apply", f"{pace} pace", "ratio", value, "quiet", wanted * at)
    for name, both in known.items():
        for value, percentile in zip(both, ("p50", "p99"), strict=True):
            yield Figure(f"{percentile} of a search, {name}", f"{pace} pace", "milliseconds", [value])
    yield Figure("searches that failed", f"{pace} pace", "", [sum(took < 0 for _, took in times)], wanted="<= 0")
    seconds = watch.ended - watch.begun
    yield Figure("seconds of the back-fill", f"{pace} pace", "seconds", [seconds])
    yield Figure("documents a second of the back-fill", f"{pace} pace", "a second", [watch.filled / seconds])
    yield Figure("ended, and indexed, in time (1) or not (0)", f"{pace} pace", "", [float(ended)], wanted=">= 1")


def calls(points: int, rounds: int) -> Iterator[Figure]:
    """Milliseconds of each kind of call, of diptych as a ratio to the bare client's; the first round warms up."""
    milliseconds: dict[tuple[str, str], list[Any]] = {}
    for number in range(rounds + 1):
        with server() as urls, ExitStack() as clients:
            upload(urls[0], size=points, grpc=False, wait=True)
            sides = {side: clients.enter_context(closing(client)) for side, client in callers(urls).items()}
            for kind, (times, call) in CALLS.items():
                taken: dict[str, list[float]] = {side: [] for side in sides}
                for at in range(times):
                    # In a new order each time: who came after a call that stalls for 40 ms took a third longer.
                    for side in random.Random(at).sample([*sides], len(sides)):
                        begin = time.perf_counter()
                        call(sides[side], at)
                        taken[side].append(1e3 * (time.perf_counter() - begin))
                for side in sides if number else ():
                    milliseconds.setdefault((kind, side), []).append(taken[side])
    for kind in CALLS:
        for ours, theirs in ((HTTP, BARE_HTTP), (GRPC, BARE_GRPC)):
            both = zip(milliseconds[kind, ours], milliseconds[kind, theirs], strict=True)
            values = [float(np.median(mine) / np.median(bare)) for mine, bare in both]
            wanted = "<= 1.15" if (kind, ours) == ("search", HTTP) else "<= 1.3"
            yield Figure(f"milliseconds of a {kind}", ours, "ratio", values, theirs, wanted)
    for (kind, side), taken_by_round in milliseconds.items():
        for name, percentile in (("p50", 50), ("p99", 99)):
            values = [float(np.percentile(taken, percentile)) for taken in taken_by_round]
            yield Figure(f"{name} of a {kind}", side, "milliseconds", values)
        slow = [sum(one > STALL for one in taken) for taken in taken_by_round]
        name = f"of {CALLS[kind][0]} calls ({kind}), those over {STALL} ms"
        yield Figure(name, side, "", slow, wanted="<= 0" if (kind, side) == ("search", HTTP) else "")


def callers(urls: tuple[str, str]) -> dict[str, Any]:
    """The clients that are compared."""
    http, grpc = (int(url.rpartition(":")[2]) for url in urls)
    return {
        BARE_HTTP: QdrantClient(port=http, check_compatibility=False),
        BARE_KEPT: QdrantClient(port=http, check_compatibility=False, limits=httpx.Limits(max_connections=100)),
        HTTP: open_store(urls[0]),
        BARE_GRPC: QdrantClient(grpc_port=grpc, prefer_grpc=True, check_compatibility=False),
        GRPC: open_store(urls[1]),
    }


def searched(client: Any, at: int) -> None:
    client.query_points("c", vectors(range(at, at + 1))[0].tolist(), using="dense.1", limit=10)


def scrolled(client: Any, at: int) -> None:
    client.scroll("c", limit=100, offset=hashed_point(str(at)))


def written(client: Any, at: int) -> None:
    rows = vectors(range(64)).tolist()
    points = [
        models.PointStruct(id=hashed_point(str(n)), vector={"dense.1": rows[n]}, payload=payload(n)) for n in range(64)
    ]
    client.upsert("c", points, wait=True)


CALLS: dict[str, tuple[int, Callable[[Any, int], None]]] = {
    "search": (400, searched),
    "scroll": (100, scrolled),
    "write": (50, written),
}
STALL = 30  # milliseconds that no search takes; the kernel's delayed acknowledgement is 40
BARE_HTTP, BARE_KEPT, BARE_GRPC = (
    "qdrant-client, HTTP, a new connection each",
    "qdrant-client, HTTP, kept",
    "qdrant-client, gRPC",
)
HTTP, GRPC = "diptych, HTTP", "diptych, gRPC"


def indexed(client: Any, longest: float) -> bool:
    """Return when the server has nothing to optimise any more, or after so many seconds; whether it has not."""
    calm, due = 0, time.monotonic() + longest
    while calm < 3 and time.monotonic() < due:
        time.sleep(0.5)
        calm = calm + 1 if client.get_collection("c").status == models.CollectionStatus.GREEN else 0
    return calm == 3


@contextmanager
def asking(url: str) -> Iterator[list[tuple[float, float]]]:
    """A process that searches all the time; in the end, when each search began and the seconds that it took."""
    times: list[tuple[float, float]] = []
    command = [sys.executable, __file__, "--ask", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield times
        finally:
            process.stdin.close()
            times += [tuple(one) for one in json.loads(process.stdout.read())]


def ask(url: str) -> None:
    """Search through diptych until standard input ends."""
    over, times = threading.Event(), list[tuple[float, float]]()
    with closing(open_store(url)) as client:
        rows = vectors(range(1000))
        print("asking", flush=True)
        threading.Thread(target=_wait_for_the_end, args=(over,), daemon=True).start()
        number = 0
        while not over.is_set():
            at, begin = time.time(), time.perf_counter()
            try:
                client.query_points("c", rows[number % 1000].tolist(), using="dense.1", limit=10)
                times.append((at, time.perf_counter() - begin))
            except Exception:
                times.append((at, -1.0))
            number += 1
    print(json.dumps(times))


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="of the rates; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--searched", type=int, default=60_000, help="documents of the collection that is searched; 0 leaves that out"
    )
    parser.add_argument("--points", type=int, default=6000, help="of the collection that is called; 0 leaves that out")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds of searches before the swap")
    parser.add_argument(
        "--longest", type=float, default=LONGEST, help="seconds of an apply, and of waiting for an index"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        return ask(options.ask)
    if not (BINARY or NAMED):
        raise SystemExit("name a server: DIPTYCH_TEST_SERVER_BINARY, or DIPTYCH_TEST_SERVER")
    table_in_memory(max(options.documents, options.searched, options.points))
    figures = list(calls(options.points, options.rounds)) if options.points else []
    figures += rates(options.documents, options.rounds) if options.documents else []
    figures += searches(options.searched, options.quiet, options.longest) if options.searched else []
    with server() as urls, closing(open_store(urls[0])) as client:
        version = ".".join(map(str, server_version(client) or ()))
    notes = [f"Qdrant {version} on loopback of the same machine, a fresh one for each round.", *notes_of(__doc__)]
    Result("On a server", figures, notes, {"diptych": versions()}).write(options.json)
    return None


def notes_of(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")[2:5]]


if __name__ == "__main__":
    main()
