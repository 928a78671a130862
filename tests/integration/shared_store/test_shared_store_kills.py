"""Two processes and a service on one embedded store: searches, populates, deletions and swaps, the holder killed.

The same on the server that DIPTYCH_TEST_SERVER names, where each of the three is killed in turn.
DIPTYCH_SHARED_SECONDS and DIPTYCH_SHARED_KILLS say for how long and how often; 300 and 10 are the full trial.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
import pytest

import named_server
import shared_process
from diptych import Collection
from diptych.testing.fakes import FakeDenseEncoder
from shared_process import REGISTRY, configured, text_of

SECONDS = float(os.environ.get("DIPTYCH_SHARED_SECONDS", "15"))
KILLS = int(os.environ.get("DIPTYCH_SHARED_KILLS", "2"))
WORKER = [sys.executable, shared_process.__file__]
SERVE = """
import sys
from diptych.cli import main
from diptych.cli.run_command import Session
from shared_process import REGISTRY
main(sys.argv[1:], session=Session(REGISTRY))
"""
ENCODERS = [FakeDenseEncoder(dimension=16, seed=seed) for seed in (0, 1)]
Asked: TypeAlias = tuple[float, float, str, list[tuple[str, str, float]]]
GONE = -1  # the version of a document that was deleted


class Killed(Exception):
    """The process was killed before it answered."""


class Worker:
    """A process of `shared_process.py`, which is started anew when it was killed."""

    def __init__(self, url: str, log: Path) -> None:
        self._url, self._log = url, log
        self.asked: list[Asked] = []
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ask("use", url=self._url, log=str(self._log))

    def do(self, what: str, **more: Any) -> dict[str, Any]:
        """What comes of it; done again by another process where the first was killed meanwhile."""
        with self._lock:
            while True:
                try:
                    return self._ask(what, **more)
                except Killed:
                    self._again()

    def _again(self) -> None:
        """Start it anew, as often as it is killed while it starts."""
        while True:
            with suppress(Killed):
                end(self.process)
                return self.start()

    def _ask(self, what: str, **more: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps({"do": what, **more}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except OSError as error:
            raise Killed from error
        if not line:
            raise Killed
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            self.errors.append(f"{what}: {said['error']}")
        return said

    def end(self) -> None:
        end(self.process)
        for line in self._log.read_text("utf-8").splitlines():
            with suppress(ValueError):  # of a line that was being written when the process was killed
                noted = json.loads(line)
                (self.errors if isinstance(noted, str) else self.asked).append(noted)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process and close what leads to it."""
    process.kill()
    with suppress(OSError):
        process.communicate()


def has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether a process is gone, or goes just now: its connections close before the system says that it was killed."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    return process.returncode is not None


class Service:
    """`diptych serve`, and a thread that asks it."""

    def __init__(self, url: str) -> None:
        self._command = [
            sys.executable,
            "-c",
            SERVE,
            "serve",
            "--store",
            url,
            "--collection",
            "c",
            "--port",
            "0",
            "--json",
            "--quiet",
        ]
        self.asked: list[Asked] = []
        self.errors: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._search)
        self.start()
        self._thread.start()

    def start(self) -> None:
        here = {**os.environ, "PYTHONPATH": str(Path(shared_process.__file__).parent)}
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=here)
        assert self.process.stdout is not None
        said = iter(self.process.stdout.readline, "}\n")
        self._url = json.loads("".join(said) + "}")["url"]

    def _search(self) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            query, begin, process = f"word{number % 17} number{number % 200}", time.monotonic(), self.process
            try:
                answer = httpx.post(f"{self._url}/search", json={"query": query, "limit": 5}, timeout=60)
                answer.raise_for_status()
                hits = answer.json()["results"][0]["hits"]
            except (httpx.HTTPError, ValueError, KeyError) as error:
                if isinstance(error, httpx.HTTPStatusError):
                    self.errors.append(f"service: {error.response.text}")
                elif not has_ended(process):
                    self.errors.append(f"service: {type(error).__name__}: {error}")
                if process.poll() is not None and process is self.process:
                    end(process)
                    self.start()
                continue
            rows = [(hit["id"], hit["text"], float(hit["score"])) for hit in hits]
            self.asked.append((begin, time.monotonic(), query, rows))
            time.sleep(0.05)

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        end(self.process)


class Documents:
    """Which version of each document may be there at which time: (begin, end, version) of each write."""

    def __init__(self, count: int) -> None:
        self.writes: dict[str, list[tuple[float, float, int]]] = {str(n): [(0.0, 0.0, 0)] for n in range(count)}

    def latest(self) -> dict[str, int]:
        return {n: writes[-1][2] for n, writes in self.writes.items() if writes[-1][2] != GONE}

    def write(self, versions: dict[str, int], act: Callable[[], object]) -> None:
        """`act` writes these versions; they may be there from now on, and are when it has returned."""
        for n, version in versions.items():
            self.writes.setdefault(n, []).append((time.monotonic(), float("inf"), version))
        act()
        for n, version in versions.items():
            begin, _, _ = self.writes[n][-1]
            self.writes[n][-1] = (begin, time.monotonic(), version)

    def may_be(self, n: str, text: str, begin: float, end: float) -> bool:
        """Whether a search from `begin` to `end` may find this text of a document."""
        writes = self.writes.get(n, [])
        settled = max((i for i, (_, ended, _) in enumerate(writes) if ended < begin), default=-1)
        possible = [version for started, _, version in writes[max(settled, 0) :] if started <= end]
        return any(version != GONE and text == text_of(int(n), version) for version in possible)

    def is_settled(self, n: str, begin: float, end: float) -> bool:
        """Whether nothing was written to it meanwhile."""
        return all(ended < begin or started > end for started, ended, _ in self.writes[n])


@pytest.fixture(params=["edge", pytest.param("server", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    url = f"edge:{tmp_path}/store" if request.param == "edge" else named_server.urls()[0]
    if request.param == "server":
        named_server.delete("c")
    with Collection.open(configured(url, 0), registry=REGISTRY) as collection:
        collection.populate([{"id": str(n), "text": text_of(n, 0)} for n in range(200)])
    return url


@pytest.mark.slow
def test_a_store_shared_by_three_processes_loses_nothing_when_one_of_them_is_killed(url: str, tmp_path: Path) -> None:
    documents, over, rng = Documents(200), threading.Event(), random.Random(5)
    service, writer, swapper = Service(url), Worker(url, tmp_path / "writer"), Worker(url, tmp_path / "swapper")
    done: Counter[str] = Counter()

    def write() -> None:
        while not over.is_set():
            latest = documents.latest()
            known = rng.sample(sorted(latest), 12)
            if rng.random() < 0.3 and len(latest) > 150:
                gone = dict.fromkeys(known[:4], GONE)
                documents.write(gone, lambda gone=gone: writer.do("delete", documents=list(gone)))  # type: ignore[misc]
                done["deleted"] += len(gone)
            else:
                fresh = {str(max(map(int, documents.writes)) + 1 + n): 0 for n in range(3)}
                versions = {n: latest[n] + 1 for n in known} | fresh
                documents.write(versions, lambda v=versions: writer.do("populate", documents=v))  # type: ignore[misc]
                done["written"] += len(versions)

    def swap() -> None:
        seed = 0
        while not over.is_set():
            seed = 1 - seed
            outcome = swapper.do("swap", seed=seed).get("outcome")
            done[f"swap: {outcome}"] += 1

    threads = [threading.Thread(target=write), threading.Thread(target=swap)]
    for thread in threads:
        thread.start()
    lock = tmp_path / "store" / ".lock" if url.startswith("edge:") else None
    kills = kill(lock, {"service": service, "writer": writer, "swapper": swapper})
    over.set()
    for thread in threads:
        thread.join()
    for own in (service, writer, swapper):
        own.end()
    every = [*service.asked, *writer.asked, *swapper.asked]
    waits = recoveries(kills, {"service": service, "writer": writer, "swapper": swapper})
    print(f"\n{SECONDS:g} s, kills {Counter(role for _, role in kills)}, searches {len(every)}, {dict(done)}")
    print(f"the others went on after (s): {[round(wait, 2) for wait in sorted(waits)]}")
    assert [*service.errors, *writer.errors, *swapper.errors] == []
    assert len(kills) == KILLS
    assert waits
    assert [asked for asked in every if is_wrong(asked, documents)] == []
    assert lost(url, documents) == []


def kill(lock: Path | None, roles: dict[str, Any]) -> list[tuple[float, str]]:
    """Kill whoever holds the store, or one after the other, evenly over the time; when, and who it was."""
    kills: list[tuple[float, str]] = []
    begin = time.monotonic()
    for number in range(KILLS):
        time.sleep(max(0.0, begin + SECONDS * (number + 0.5) / KILLS - time.monotonic()))
        role = None if lock else sorted(roles)[number % len(roles)]
        while lock and role is None:
            holder = lock.read_text("ascii").strip()
            role = next((role for role, own in roles.items() if str(own.process.pid) == holder), None)
        assert role is not None
        at = time.monotonic()
        os.kill(roles[role].process.pid, signal.SIGKILL)
        kills.append((at, role))
    time.sleep(max(0.0, begin + SECONDS - time.monotonic()))
    return kills


def recoveries(kills: list[tuple[float, str]], roles: dict[str, Any]) -> list[float]:
    """For each kill and each other process: seconds until the first search that it asked later was answered."""
    found = []
    for at, killed in kills:
        for role, own in roles.items():
            ends = [end for begin, end, _, _ in own.asked if begin >= at]
            if role != killed and ends:
                found.append(min(ends) - at)
    return found


def is_wrong(asked: Asked, documents: Documents) -> bool:
    """Whether a hit is no version that may have been there, or its score is neither encoder's."""
    begin, end, query, hits = asked
    if not hits or not all(documents.may_be(n, text, begin, end) for n, text, _ in hits):
        return True
    settled = [(text, score) for n, text, score in hits if documents.is_settled(n, begin, end)]
    texts, scores = [text for text, _ in settled], [score for _, score in settled]
    return bool(texts) and not any(
        np.allclose(encoder.encode_document(texts) @ encoder.encode_query([query])[0], scores, atol=1e-4)
        for encoder in ENCODERS
    )


def lost(url: str, documents: Documents) -> list[str]:
    """Documents that are not there as last written, or are though deleted, or whose vectors are not of their text."""
    wanted = {n: text_of(int(n), version) for n, version in documents.latest().items()}
    with Collection.open(url, "c", registry=REGISTRY, api_key=shared_process.key_of(url)) as found:
        records, _ = found.client.scroll("c", limit=100_000, with_vectors=True)
        slot = found.handle.slot("dense")
        have = {record.payload["_diptych"]["id"]: record for record in records if record.payload}
        texts = {n: record.payload["text"] for n, record in have.items() if record.payload}
        faults = [
            f"{n}: {texts.get(n)} for {wanted.get(n)}"
            for n in texts.keys() | wanted.keys()
            if texts.get(n) != wanted.get(n)
        ]
        names = sorted(have)
        vectors: Any = [have[n].vector for n in names]
        made = np.stack([np.asarray(vector[slot.vector], np.float32) for vector in vectors])
        fitting = [np.allclose(made, e.encode_document([texts[n] for n in names]), atol=1e-4) for e in ENCODERS]
        return faults if any(fitting) else [*faults, "vectors that are not of their text"]
