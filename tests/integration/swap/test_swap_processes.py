"""A swap while other processes serve and fill the collection; nothing in them is set for the tests.

It lies on a small server with Qdrant's routes, on a real one where DIPTYCH_TEST_SERVER names it, and in an embedded
store that all of the processes have open.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from qdrant_client.client_base import QdrantBase

import named_server
from diptych.metadata.store import APPLY, update_metadata
from diptych.stores import open_store
from diptych.testing.fakes import FakeDenseEncoder
from shared_process import key_of

SCRIPT = Path(__file__).with_name("swap_process.py")
CHUNK = 16
OLD: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}
NEW: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16, "seed": 1, "delay": 0.03}}
ENCODERS = {"old": FakeDenseEncoder(dimension=16), "new": FakeDenseEncoder(dimension=16, seed=1)}
Answer: TypeAlias = list[Any]
Faults: TypeAlias = Callable[..., list[str]]


class Process:
    """A process of `swap_process.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, do: str, **more: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **more}), file=self._process.stdin, flush=True)

    def said(self) -> dict[str, Any]:
        """What came of it."""
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """What comes of what it is to do."""
        self.begin(do, **more)
        return self.said()

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether it was not killed."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()


@pytest.fixture(params=["small", "edge", "server"])
def url(request: pytest.FixtureRequest, small_server: Callable[..., Any], tmp_path: Path) -> str:
    """Where the store is."""
    if request.param == "edge":
        return f"edge:{tmp_path}/store"
    if request.param == "small":
        return str(small_server().url)
    return named_server.urls()[0]


@pytest.fixture
def client(url: str) -> Iterator[QdrantBase]:
    """The server, without the collection."""
    opened = open_store(url, api_key=key_of(url))
    named_server.clear(opened, "c")
    yield opened
    named_server.clear(opened, "c")
    opened.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    """Two that are there, since each takes seconds to come up; more join them."""
    started = [Process(), Process()]
    yield started
    for process in started:
        process.close()


@pytest.fixture
def pair(processes: list[Process], client: QdrantBase, url: str, tmp_path: Path) -> tuple[Process, Process]:
    """Two other processes that work with the server."""
    if sum(process.alive for process in processes) < 2:
        processes.append(Process())
    one, other = [process for process in processes if process.alive][:2]
    for process in (one, other):
        process.ask("use", url=url, folder=str(tmp_path))
    return one, other


class Answers:
    """The answers of a serving process, and whose they are."""

    def __init__(self, serving: Process) -> None:
        self._serving = serving
        self.whose: list[str] = []

    def until(self, true: Callable[[list[str]], bool]) -> None:
        """Until it is true of whose the answers are that come from now on."""
        begun = len(self.whose)

        def told() -> bool:
            found = self._serving.ask("tell", what="serve")
            assert found["errors"] == []
            self.whose += map(whose, found["answers"])
            return true(self.whose[begun:])

        wait_until(told)

    @property
    def turns(self) -> list[str]:
        """Whose the answers were, one after another."""
        return [name for name, _ in groupby(self.whose)]


def whose(answer: Answer) -> str:
    """The encoder whose scores, recomputed from the texts, are those of all hits; `nobody` for others."""
    query, hits = answer
    found = []
    for name, encoder in ENCODERS.items():
        wanted = encoder.encode_document([text for text, _ in hits]) @ encoder.encode_query([query])[0]
        if np.allclose(wanted, [score for _, score in hits], atol=1e-4):
            found.append(name)
    return found[0] if len(found) == 1 and hits else "nobody"


def wait_until(true: Callable[[], bool]) -> None:
    """Until it is true, which it must become within a minute, on a busy machine too."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_serving_process_answers_through_all_that_another_one_does_and_follows_it(
    pair: tuple[Process, Process],
) -> None:
    applying, serving = pair
    assert applying.ask("populate", slots=OLD, size=120) == {"new": 120}
    serving.ask("serve")
    answers = Answers(serving)
    answers.until(lambda whose: len(whose) > 20)
    assert applying.ask("apply", slots=NEW)["outcome"] == "cut over"
    answers.until(lambda whose: whose[-1:] == ["new"])
    assert applying.ask("rollback") == {"outcome": "rolled back"}
    answers.until(lambda whose: whose[-1:] == ["old"])
    assert applying.ask("apply", slots=NEW) == {"outcome": "cut over", "encoded": {}}
    assert applying.ask("finish") == {"outcome": "finished"}, "at once, so that it still asks for the old vectors"
    answers.until(lambda whose: whose[-1:] == ["new"])
    answers.until(lambda whose: len(whose) > 20)
    assert answers.turns == ["old", "new", "old", "new"]


@pytest.mark.slow
def test_what_another_process_inserts_updates_and_deletes_during_a_swap_is_there_after_it(
    client: QdrantBase, pair: tuple[Process, Process], faults: Faults
) -> None:
    applying, writing = pair
    applying.ask("populate", slots=OLD, size=150)
    writing.ask("write", slots=OLD, start=150)

    def written() -> int:
        found = writing.ask("tell", what="write")
        assert found["errors"] == []
        return sum(found["counts"].values())

    wait_until(lambda: written() > 0)
    assert applying.ask("apply", slots=NEW, cut_over=False)["outcome"] == "filled"
    filled = written()
    wait_until(lambda: written() >= filled + 50)
    assert applying.ask("apply", slots=NEW)["outcome"] == "cut over"
    after = written()
    wait_until(lambda: written() >= after + 50)
    told = writing.ask("stop", what="write")
    assert told["errors"] == []
    assert min(told["counts"].values()) > 0
    records, _ = client.scroll("c", limit=10_000)
    payloads = [record.payload or {} for record in records]
    assert {payload["_diptych"]["id"]: payload["text"] for payload in payloads} == told["expected"]
    assert faults(client, "dense.2", ENCODERS["new"]) == []
    assert faults(client, "dense.1", ENCODERS["old"]) == []


@pytest.mark.slow
def test_an_apply_that_is_killed_is_taken_up_by_another_process_which_was_refused_before(
    client: QdrantBase, pair: tuple[Process, Process], faults: Faults
) -> None:
    killed, other = pair
    other.ask("populate", slots=OLD, size=150)
    slow = {"dense": {**NEW["dense"], "delay": 0.06}}

    def done() -> int:
        lease = (client.get_collection("c").config.metadata or {}).get(APPLY) or {}
        return int(lease.get("checkpoints", {}).get("dense.2", {}).get("done", 0))

    killed.begin("apply", slots=slow)
    wait_until(lambda: done() > 0)
    refused = other.ask("apply", slots=slow)["failed"]
    assert refused.startswith("ApplyRunning: a swap is being applied to the collection already")
    wait_until(lambda: done() >= 40)
    killed.kill()
    update_metadata(client, "c", {"seen": True})  # where this is seen, all is seen that was acknowledged before
    left = 150 - done()
    found = other.ask("apply", slots=slow)
    assert found["outcome"] == "cut over"
    assert left <= found["encoded"]["dense.2"] <= left + CHUNK
    assert faults(client, "dense.2", ENCODERS["new"]) == []
