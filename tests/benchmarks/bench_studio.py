"""How long searches of Studio take while many people type: each key cancels the search before.

    python tests/benchmarks/bench_studio.py --clients 20 --seconds 30

Every client types judged queries of debian-mini, a key each 60 to 200 ms, into two sides at once (the whole pipeline by
MiniLM and BM25, and its dense slot), and waits at the end of each query for both answers. The server is a process.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from diptych import Collection
from diptych.populate import open_source

DEBIAN = Path(__file__).parents[2] / "examples" / "debian"
CONFIG = """\
store: edge:./qdrant
collection: debian
slots:
  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2}
  lexical: {adapter: bm25, language: english}
search: {retrieve: {dense: 100, lexical: 100}}
"""
SIDES = ("pipeline", "slot:dense")
KEYS = (0.06, 0.2)  # seconds between two keys


@dataclass
class Told:
    """What the clients met."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # for the last key of a query
    cancelled: int = 0
    errors: list[str] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, text: str, side: str, told: Told) -> float:
    began = time.perf_counter()
    try:
        answer = await client.post("/studio/api/search", json={"query": text, "side": side})
    except asyncio.CancelledError:
        told.cancelled += 1
        raise
    except httpx.HTTPError as error:
        told.errors.append(repr(error))
        return 0.0
    if answer.status_code != 200:
        told.errors.append(answer.text[:200])
    told.seconds.append(time.perf_counter() - began)
    return told.seconds[-1]


async def types(url: str, number: int, queries: list[str], end: float, told: Told) -> None:
    chance = random.Random(number)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while time.monotonic() < end:
            query, asked = chance.choice(queries), list[asyncio.Task[float]]()
            for length in range(1, len(query) + 1):
                for task in asked:
                    task.cancel()
                asked = [asyncio.create_task(ask(client, query[:length], side, told)) for side in SIDES]
                await asyncio.sleep(chance.uniform(*KEYS))
            told.waited += await asyncio.gather(*asked)


async def everybody(url: str, clients: int, seconds: float) -> Told:
    lines = gzip.decompress((DEBIAN / "queries.jsonl.gz").read_bytes()).decode().splitlines()
    queries, told = [json.loads(line)["text"] for line in lines], Told()
    end = time.monotonic() + seconds
    await asyncio.gather(*(types(url, number, queries, end, told) for number in range(clients)))
    return told


def under_way(url: str) -> float:
    """Requests that the server still works on, this one included."""
    found = re.search(r"^diptych_requests_in_flight (\S+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("the server does not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "diptych.yaml").write_text(CONFIG)
        with Collection.open(Path(folder) / "diptych.yaml") as collection:
            collection.populate(open_source(DEBIAN / "corpus.jsonl.gz"))
        command = [sys.executable, "-m", "diptych", "studio", "--port", "0", "--quiet", "--json"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                said = ""
                while not said.endswith("}\n"):
                    said += server.stdout.readline()
                url = json.loads(said)["url"].removesuffix("/studio/")
                wait_until_ready(url)
                told = asyncio.run(everybody(url, given.clients, given.seconds))
                left = under_way(url) - 1
            finally:
                server.terminate()
    middle, slow = np.percentile(1000 * np.array(told.waited), [50, 99])
    print(f"{given.clients} clients, {given.seconds:g} s: {len(told.seconds):,} answers")
    print(f"cancelled by the next key: {told.cancelled:,}")
    print(f"errors: {len(told.errors)} {told.errors[:3] or ''}")
    print(f"after the last key of {len(told.waited):,} queries: p50 {middle:.0f} ms, p99 {slow:.0f} ms")
    print(f"requests under way when all had gone: {left:.0f}")


if __name__ == "__main__":
    main()
