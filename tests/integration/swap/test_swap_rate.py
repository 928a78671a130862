"""A back-fill goes no faster than it is allowed to, and writes no more checkpoints than it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.populate import pace as pace_module
from diptych.runtime.phases import watched
from diptych.stores import open_store
from diptych.swap import backfill
from diptych.swap.lease import Checkpoint, Lease
from diptych.types import Document
from swaps import NEW, OLD

SIZE = 240


class Waits(threading.Event):
    """Notes how long it is waited for; that takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, at once."""
        self.seconds.append(timeout or 0.0)
        return self.is_set()


@pytest.mark.parametrize("rate", [None, 1, 2])
def test_the_last_documents_wait_until_those_before_them_have_had_their_time(
    memory: QdrantBase, config: Callable[..., Any], opened: Callable[..., Collection], rate: int | None
) -> None:
    found = opened(memory, config(OLD))
    found.populate([Document(str(n), f"word{n % 17} number{n}") for n in range(SIZE)])
    waits = Waits()
    report = found.apply(config(NEW, swap={"rate": rate}), stopped=waits)
    assert report.encoded == {"dense.2": SIZE}
    longest = max(waits.seconds, default=0.0)
    if rate is None:
        assert longest == 0
    else:
        wanted = SIZE / rate
        assert wanted - 30 < longest <= wanted, "less the time that this run itself took"


@pytest.mark.parametrize(("pace", "words"), [(None, "gentle pace, "), ("full", "full pace")])
def test_a_server_is_filled_at_the_gentle_pace_unless_another_is_wanted(
    small_server: Callable[..., Any],
    config: Callable[..., Any],
    opened: Callable[..., Collection],
    pace: str | None,
    words: str,
) -> None:
    found = opened(open_store(small_server().url), config(OLD))
    found.populate([Document(str(n), f"word{n % 17} number{n}") for n in range(SIZE)])
    lines: list[str] = []
    with watched(lines.append):
        report = found.apply(config(NEW, swap={"pace": pace}))
    assert report.encoded == {"dense.2": SIZE}
    told = [line for line in lines if line.startswith("fill the new vectors: ")]
    assert told
    assert all(words in line for line in told)


@pytest.mark.parametrize(("pace", "told"), [(None, True), ("full", False), ("gentle", False)])
def test_a_plan_says_how_long_the_gentle_pace_may_take_where_nobody_chose_it(
    small_server: Callable[..., Any],
    config: Callable[..., Any],
    opened: Callable[..., Collection],
    monkeypatch: pytest.MonkeyPatch,
    pace: str | None,
    told: bool,
) -> None:
    found = opened(open_store(small_server().url), config(OLD))
    found.populate([Document(str(n), f"word{n % 17} number{n}") for n in range(SIZE)])
    new = config(NEW, swap={"pace": pace} if pace else {})
    assert not [line for line in found.plan(new).warnings if "pace" in line], "240 documents take seconds at any pace"
    monkeypatch.setattr(pace_module, "LEAST_RATE", 1.0)
    lines = [line for line in found.plan(new).warnings if "240 documents may take up to 4 min" in line]
    assert len(lines) == told
    assert all("diptych apply --pace full" in line for line in lines)


class StopsAfter:
    """Stops the apply once so many documents are filled."""

    def __init__(self, documents: int) -> None:
        self.left, self.stopped = documents, threading.Event()

    def begin(self, stage: str, total: int | None) -> None:
        """Of any stage."""

    def advance(self, stage: str, n: int) -> None:
        """Some more."""
        self.left -= n if stage == "fill" else 0
        if self.left <= 0:
            self.stopped.set()


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[Checkpoint]:
    """Those that are written, where the second between two of them never ends."""
    written, whole = list[Checkpoint](), Lease.checkpoint

    def noted(lease: Lease, vector: str, reached: Checkpoint) -> None:
        written.append(reached)
        whole(lease, vector, reached)

    monkeypatch.setattr(Lease, "checkpoint", noted)
    monkeypatch.setattr(backfill, "CHECKPOINT", 3600.0)
    return written


def test_an_apply_that_is_stopped_writes_down_all_that_it_has_done(
    memory: QdrantBase, config: Callable[..., Any], opened: Callable[..., Collection], checkpoints: list[Checkpoint]
) -> None:
    found = opened(memory, config(OLD))
    found.populate([Document(str(n), f"word{n % 17} number{n}") for n in range(SIZE)])
    new, progress = config(NEW, populate={"chunk": 8}), StopsAfter(100)
    report = found.apply(new, stopped=progress.stopped, progress=progress)
    assert report.outcome == "filled"
    reached = checkpoints[-1].done
    assert 100 <= reached <= report.encoded["dense.2"] <= reached + 8
    assert found.apply(new).encoded == {"dense.2": SIZE - reached}
