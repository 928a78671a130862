"""Many clients for a while: good, bad, idle, slow and rude ones, over loopback.

`DIPTYCH_SOAK` is how many seconds; 8 unless set.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from diptych import Registry
from diptych_serve.service.access import Bounds
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from hostile import mutated, text_of
from serving import animals, served, until

SECONDS = float(os.environ.get("DIPTYCH_SOAK", "8"))
JSON = {"Content-Type": "application/json"}
SEARCH = {"query": "cat", "limit": 3, "filter": {"must": [{"key": "letter", "match": {"value": "c"}}]}}


class Clients:
    """Threads that ask until the time is over, and what they met."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.url, self.place, self.end = url, (parts.hostname, parts.port), time.monotonic() + SECONDS
        self.right, self.again, self.wrong = 0, 0, list[str]()

    def run(self, *kinds: Callable[[random.Random], None]) -> None:
        """Each kind in threads of its own."""
        threads = [threading.Thread(target=self._loop, args=(kind, seed)) for seed, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _loop(self, kind: Callable[[random.Random], None], seed: int) -> None:
        drawn = random.Random(seed)
        while time.monotonic() < self.end:
            try:
                kind(drawn)
            except (OSError, httpx.TransportError):  # closed to make room; a client asks again
                self.again += kind == self.good

    def good(self, drawn: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for _ in range(20):
                answer = client.post("/search", json={"query": f"the warm cat {drawn.randint(0, 5)}"})
                if answer.status_code != 200 or answer.json()["results"][0]["hits"][0]["id"] != "cat":
                    self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
                self.right += 1

    def bad(self, drawn: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            answer = client.post("/search", content=text_of(mutated(drawn, SEARCH)), headers=JSON)
            if answer.status_code >= 500:
                self.wrong.append(f"{answer.status_code} {answer.text[:200]}")

    def idle(self, drawn: random.Random) -> None:
        held = [socket.create_connection(self.place, timeout=10) for _ in range(20)]
        time.sleep(0.1)
        for own in held:
            own.close()

    def slow(self, drawn: random.Random) -> None:
        with socket.create_connection(self.place, timeout=10) as own:
            for byte in b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-":
                own.sendall(bytes([byte]))
                time.sleep(0.02)

    def rude(self, drawn: random.Random) -> None:
        """Ask and go away before the answer; or send what is no HTTP."""
        with socket.create_connection(self.place, timeout=10) as own:
            body = b'{"query": "cat"}'
            head = b"POST /search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            own.sendall(drawn.choice([head % len(body) + body, b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n\r\n"]))
        time.sleep(0.02)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_good_clients_are_answered_while_bad_idle_slow_and_rude_ones_come_and_go(
    tmp_path: Path, fakes: Registry
) -> None:
    app = application(Served([animals(tmp_path, fakes)], registry=fakes))
    with served(app, Bounds(header_seconds=1, idle_seconds=2)) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        clients = Clients(url)
        before = descriptors()
        kinds = (clients.good, clients.good, clients.good, clients.bad, clients.bad, clients.idle, clients.idle)
        clients.run(*kinds, clients.slow, clients.slow, clients.rude, clients.rude)
        assert not clients.wrong, f"{len(clients.wrong)} of {clients.right}: {clients.wrong[:3]}"
        assert clients.right > clients.again
        until(lambda: descriptors() <= before + 5)
        assert httpx.get(f"{url}/readyz").status_code == 200
        until(lambda: "diptych_requests_in_flight 1.0" in httpx.get(f"{url}/metrics").text)
