"""Good, bad, idle, slow and rude clients at once for a while, over loopback.

`DIPTYCH_SOAK` is how many seconds; 8 unless set.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from diptych import Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from hostile import mutated, text_of
from serving import animals, served, until

SECONDS = float(os.environ.get("DIPTYCH_SOAK", "8"))
JSON = {"Content-Type": "application/json"}
SEARCH = {"query": "cat", "limit": 3, "filter": {"must": [{"key": "letter", "match": {"value": "c"}}]}}
RUDE = (
    b'POST /search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"query": "cat"}',
    b"\x16\x03\x01\x02\x00",
    b"GET / HTTP/1.1\r\n\r\n\r\n",
    b"",
)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_good_clients_are_answered_while_bad_idle_slow_and_rude_ones_come_and_go(
    tmp_path: Path, fakes: Registry
) -> None:
    wrong, right = list[str](), 0

    def good(client: httpx.Client, drawn: random.Random) -> None:
        nonlocal right
        answer = client.post("/search", json={"query": f"the warm cat {drawn.randint(0, 5)}"})
        if answer.status_code != 200 or answer.json()["results"][0]["hits"][0]["id"] != "cat":
            wrong.append(f"{answer.status_code} {answer.text[:200]}")
        right += 1

    def bad(client: httpx.Client, drawn: random.Random) -> None:
        answer = client.post("/search", content=text_of(mutated(drawn, SEARCH)), headers=JSON)
        if answer.status_code >= 500:
            wrong.append(f"{answer.status_code} {answer.text[:200]}")

    def rude(client: httpx.Client, drawn: random.Random) -> None:
        """Ask and go away before the answer, send what is no HTTP, or come slowly, or say nothing."""
        with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as own:
            sent = drawn.choice(RUDE)
            for at in range(0, len(sent), drawn.choice((1, 1000))):
                own.sendall(sent[at : at + 1000])
                time.sleep(0.02)

    def loop(kind: Callable[[httpx.Client, random.Random], None], seed: int) -> None:
        drawn, end = random.Random(seed), time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                with httpx.Client(base_url=url, timeout=60) as client:
                    for _ in range(20):
                        kind(client, drawn)
            except (OSError, httpx.TransportError):  # an idle connection was closed; a client asks again
                assert kind is not good or right, "nobody is answered"

    app = application(Served([animals(tmp_path, fakes)], registry=fakes))
    with served(app, header_seconds=1, idle_seconds=2) as url, ThreadPoolExecutor(8) as pool:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        before = descriptors()
        list(pool.map(loop, (good, good, good, bad, bad, rude, rude, rude), range(8)))
        assert not wrong, f"{len(wrong)} of {right}: {wrong[:3]}"
        until(lambda: descriptors() <= before + 5)
        until(lambda: "diptych_requests_in_flight 1.0" in httpx.get(f"{url}/metrics").text)
