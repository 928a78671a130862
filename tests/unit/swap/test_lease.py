"""One process at a time applies a swap: who holds the lease, when it is taken over, and what stops a loser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase
from qdrant_client.conversions.conversion import json_to_value

from diptych.errors import ApplyRunning
from diptych.metadata.store import APPLY, CLAIM, raw_metadata
from diptych.swap import lease as leases
from diptych.swap.lease import STALE, Checkpoint, Lease, LeaseRecord, process_scope, read_lease
from diptych_edge import EdgeClient
from waiting import until


def record(**changes: Any) -> LeaseRecord:
    own = {"token": "t", "by": "eve@far", "host": socket.gethostname(), "place": process_scope(), "pid": os.getpid()}
    own |= {"at": ago(1), **changes}
    return LeaseRecord.model_validate(own)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def put(client: QdrantBase, found: LeaseRecord) -> None:
    client.update_collection("c", metadata={APPLY: found.model_dump(mode="json")})


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.fixture
def running() -> int:
    """The number of another process that runs."""
    return os.getppid()


LEASES: dict[str, tuple[dict[str, Any], bool]] = {
    "a process that runs here keeps it": ({"pid": "running", "at": STALE.seconds - 30}, True),
    "an earlier run with the number of this process has lost it": ({"at": 0}, False),
    "another machine keeps it while it was heard of": (
        {"host": "elsewhere", "pid": "dead", "at": STALE.seconds - 30},
        True,
    ),
    "another machine loses it after a long silence": (
        {"host": "elsewhere", "pid": "dead", "at": STALE.seconds + 5},
        False,
    ),
    "a process of that number in another container of this host name keeps it": (
        {"pid": "dead", "place": "another boot 4026531836", "at": 1},
        True,
    ),
    "a claim of a process that runs keeps it": ({"pid": "running", "at": 1, "claims": True}, True),
    "a claim of a dead process is removed": ({"pid": "dead", "at": 1, "claims": True}, False),
    "what a newer release wrote is no obstacle": ({"format": 99}, False),
}


@pytest.mark.parametrize("case", LEASES)
def test_who_holds_a_lease_depends_on_whether_that_process_may_live(
    client: QdrantBase, dead: int, running: int, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MOST_PAUSE", 0.0)
    changes, kept = LEASES[case]
    if "at" in changes:
        numbers = {"dead": dead, "running": running}
        pid = numbers.get(changes.get("pid", ""), os.getpid())
        own = {key: value for key, value in changes.items() if key != "claims"}
        found = record(**{**own, "pid": pid, "at": ago(changes["at"])})
        (claim if changes.get("claims") else put)(client, found)
    else:
        client.update_collection("c", metadata={APPLY: changes})
    with pytest.raises(ApplyRunning, match="eve@far") if kept else nullcontext(), Lease(client, "c") as taken:
        assert taken.checkpoints == {}
    assert claims(client) == ([f"{CLAIM}t"] if kept and changes.get("claims") else [])


def test_a_dead_process_on_this_machine_loses_its_lease_at_once(client: QdrantBase, dead: int) -> None:
    put(client, record(pid=dead, at=ago(0), checkpoints={"dense.2": {"offset": 7, "done": 7}}))
    with Lease(client, "c") as taken:
        assert taken.checkpoints == {"dense.2": Checkpoint(offset=7, done=7)}
        found = read_lease(client, "c")
        assert found is not None
        assert found.pid == os.getpid()


STEPS: dict[str, Callable[[Lease], None]] = {
    "checkpoint": lambda lease: lease.checkpoint("dense.2", Checkpoint(offset=1)),
    "trial": lambda lease: lease.trying({}),
    "repair": lambda lease: lease.repairing("dense.2", [1]),
    "release": lambda lease: lease.__exit__(None, None, None),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_was_stopped_after_reading_its_lease_does_not_write_over_the_next_holders(
    client: QdrantBase, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival, times = record(host="elsewhere", at=ago(0)), count()

    def clock() -> float:
        if (call := next(times)) == 1:  # between the reading and the writing
            put(client, rival)
        return 2.0 * STALE.seconds * call

    lease = Lease(client, "c").__enter__()
    monkeypatch.setattr(leases, "_clock", clock)
    refused = nullcontext() if step == "release" else pytest.raises(ApplyRunning, match="eve@far")
    with refused:
        STEPS[step](lease)
    assert next(times) >= 2
    assert read_lease(client, "c") == rival
    if step != "release":
        lease.__exit__(None, None, None)
    assert read_lease(client, "c") == rival


def claim(client: QdrantBase, found: LeaseRecord | None) -> None:
    client.update_collection("c", metadata={f"{CLAIM}t": found and found.model_dump(mode="json")})


def claims(client: QdrantBase) -> list[str]:
    return [key for key in raw_metadata(client, "c") if key.startswith(CLAIM)]


def test_a_lease_is_taken_once_a_rival_has_withdrawn_its_claim(
    client: QdrantBase, running: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(client, record(pid=running))
    monkeypatch.setattr("diptych.swap.lease.time.sleep", lambda _: claim(client, None))
    with Lease(client, "c"):
        assert claims(client) == []
        assert read_lease(client, "c") is not None


def test_a_lease_that_a_rival_took_meanwhile_is_its_own(
    client: QdrantBase, running: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = record(pid=running)
    claim(client, rival)
    monkeypatch.setattr("diptych.swap.lease.time.sleep", lambda _: put(client, rival))
    with pytest.raises(ApplyRunning, match="eve@far"):
        Lease(client, "c").__enter__()
    assert read_lease(client, "c") == rival


def test_many_processes_that_start_at_once_give_one_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_taking", nullcontext())  # which only threads of one process share
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", vectors_config={}, metadata={"diptych": {}})
        one_of_eight_holds(client)
        assert claims(client) == []


def one_of_eight_holds(client: QdrantBase) -> None:
    start, over, held, refused = threading.Barrier(8), threading.Event(), list[int](), list[int]()

    def take(number: int) -> None:
        start.wait()
        try:
            with Lease(client, "c"):
                held.append(number)
                over.wait(60)
        except ApplyRunning:
            refused.append(number)
            if len(refused) == 7:
                over.set()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)


def test_a_lease_that_was_let_go_is_free_although_its_process_lives_on(client: QdrantBase, running: int) -> None:
    with Lease(client, "c") as lease:
        lease.checkpoint("dense.2", Checkpoint(offset="p", done=3))
    found = read_lease(client, "c")
    assert found is not None
    assert found.checkpoints == {"dense.2": Checkpoint(offset="p", done=3)}
    assert not found.model_copy(update={"pid": running}).alive


def test_a_lease_without_checkpoints_leaves_nothing_behind_though_the_work_failed(client: QdrantBase) -> None:
    with Lease(client, "c"):
        assert read_lease(client, "c") is not None
    assert read_lease(client, "c") is None
    with pytest.raises(ValueError, match="of the work"), Lease(client, "c"):
        raise ValueError("of the work")
    assert read_lease(client, "c") is None


def test_a_lease_that_goes_out_with_the_cut_over_is_not_written_again(client: QdrantBase) -> None:
    with Lease(client, "c") as lease:
        lease.checkpoint("dense.2", Checkpoint(complete=True))
        lease.forget()
        client.update_collection("c", metadata={APPLY: None})
    assert read_lease(client, "c") is None


def test_a_heartbeat_keeps_a_lease_young_and_never_takes_it_back_from_a_thief(
    client: QdrantBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.01)
    beats = threading.Event()
    whole, count = client.update_collection, [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] > 3:
            beats.set()
        return whole(*args, **kwargs)

    monkeypatch.setattr(client, "update_collection", counted)
    with Lease(client, "c") as lease:
        assert beats.wait(60)
        with lease._lock:  # between two beats: a store has no call that compares and sets
            put(client, record(host="elsewhere", at=ago(0)))
        looks, look = [0], lease.require

        def looked() -> None:
            looks[0] += 1
            look()

        monkeypatch.setattr(lease, "require", looked)
        until(lambda: looks[0] > 3)
        found = read_lease(client, "c")
        assert found is not None
        assert found.token == "t"


def test_a_lease_whose_first_write_was_answered_by_an_error_can_be_taken_again(
    client: QdrantBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = client.update_collection

    def lost(*given: Any, **options: Any) -> None:
        update(*given, **options)
        raise TimeoutError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(client, "update_collection", lost)
        with pytest.raises(TimeoutError), Lease(client, "c"):
            pass
    with Lease(client, "c"):
        assert read_lease(client, "c") is not None


def test_points_that_are_being_repaired_are_known_to_the_next_holder_until_they_are_done(client: QdrantBase) -> None:
    with Lease(client, "c") as lease:
        lease.checkpoint("dense.2", Checkpoint(complete=True, done=5))
        for vector in ("dense.2", "late.2"):
            lease.repairing(vector, [3, "a"])
    with Lease(client, "c") as lease:
        for vector in ("late.2", "dense.2"):
            assert lease.reached(vector).repairing == (3, "a")
            lease.repairing(vector, ())
        assert lease.checkpoints == {"dense.2": Checkpoint(complete=True, done=5)}


@pytest.mark.parametrize("point", [0, 2**63 - 1, 2**63, 2**64 - 1, "550e8400-e29b-41d4-a716-446655440000"])
def test_a_checkpoint_holds_no_number_that_grpc_cannot_send(point: int | str) -> None:
    reached = Checkpoint(offset=point, repairing=(point, 7))
    raw = reached.model_dump(mode="json")
    json_to_value(raw).SerializeToString()
    assert Checkpoint.model_validate(raw) == reached
