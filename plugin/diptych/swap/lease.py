"""`Lease`: only one process applies a swap at a time; its checkpoints and trials outlive the process.

Lease and checkpoints are stored in the collection's metadata under a key that only the holder writes. Qdrant has no
compare-and-set, but all nodes apply all changes of metadata in one order. So a process that takes the lease writes a
claim under a key of its own before. Where it sees its claim, it also sees every claim and lease that came earlier: of
two processes at least the later one sees the other, and withdraws.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError

from diptych.errors import ApplyRunning, StoreUnavailable
from diptych.handle.create import timestamp, who
from diptych.metadata.models import Record
from diptych.metadata.store import APPLY, CLAIM, StoredId, raw_metadata, update_metadata

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

STALE = timedelta(seconds=90)  # without a sign of life for so long, the holder is taken for dead
HELD: set[str] = set()  # tokens of this process

HEARTBEAT = 15.0  # seconds
CLAIM_TRIES = 8  # claims that are tried while other processes claim the lease too
MOST_PAUSE = 0.5  # seconds before the next try, at most


class Lease:
    """The lease, held within a `with` block; checkpoints of a dead holder are taken over.

    Raises:
        ApplyRunning: another process holds it.
    """

    def __init__(self, client: QdrantBase, name: str) -> None:
        self._client, self._name = client, name
        self._token = uuid.uuid4().hex
        self._lock, self._over = threading.Lock(), threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="lease", daemon=True)
        self.checkpoints: dict[str, Checkpoint] = {}
        self.trials: dict[str, TriedStorage] = {}

    def __enter__(self) -> Self:
        try:
            with _taking:
                self._require_free(raw_metadata(self._client, self._name))
                HELD.add(self._token)
                self._take()
        except BaseException:
            HELD.discard(self._token)
            raise
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease; the checkpoints stay for the next holder, unless `forget` has removed them."""
        self._over.set()
        self._beat.join()
        with contextlib.suppress(Exception):  # another's lease stays; if the store fails, the work has raised already
            if read_lease(self._client, self._name) is not None:
                self._require_fresh()
                if self.checkpoints or self.trials:
                    self._write(released=True)
                else:
                    update_metadata(self._client, self._name, {APPLY: None})
        HELD.discard(self._token)

    def require(self) -> None:
        """Raise ApplyRunning when another process has taken the lease."""
        lease = read_lease(self._client, self._name)
        if lease is not None and lease.token != self._token:
            raise _running(self._name, lease)

    def _require_fresh(self) -> None:
        """As `require`, for a write that follows at once.

        A process that is stopped, or whose machine sleeps, may read its lease, lose it, and wake up to write. So what
        it read long ago is read again. Only a stop in the short time from this check to the write goes unnoticed.
        """
        began = _clock()
        self.require()
        if _clock() - began > HEARTBEAT:
            self.require()

    def reached(self, vector: str) -> Checkpoint:
        """How far the back-fill of this vector is."""
        return self.checkpoints.get(vector, Checkpoint())

    def checkpoint(self, vector: str, reached: Checkpoint) -> None:
        """Store how far the back-fill of this vector is.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        with self._lock:
            self._require_fresh()
            self.checkpoints[vector] = reached
            self._note()

    def repairing(self, vector: str, points: Sequence[int | str]) -> None:
        """Store which points are being given this vector; an empty sequence ends it.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        with self._lock:
            self._require_fresh()
            reached = self.checkpoints.pop(vector, Checkpoint()).model_copy(update={"repairing": tuple(points)})
            if reached != Checkpoint():
                self.checkpoints[vector] = reached
            self._write()

    def trying(self, trials: Mapping[str, TriedStorage]) -> None:
        """Store which vectors have other storage for a trial, for the case of a kill; an empty mapping ends it.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        with self._lock:
            self._require_fresh()
            self.trials = dict(trials)
            self._write()

    def clear(self) -> None:
        """Drop checkpoints and trials: the work is done and its storage is live; only cleaning up is left."""
        with self._lock:
            self.checkpoints.clear()
            self.trials.clear()

    def forget(self) -> dict[str, None]:
        """Stop the heartbeat; returns what the next update must write beside its change to remove the lease."""
        with self._lock:  # a heartbeat that has begun ends before
            self._over.set()
        return {APPLY: None}

    def _take(self) -> None:
        """Claim the lease, and take it where no other process has claimed it."""
        claim_key = f"{CLAIM}{self._token}"
        for _ in range(CLAIM_TRIES):
            try:
                seen = update_metadata(self._client, self._name, {claim_key: self._described()})
                self._require_free(seen)
                claims = {key: lease_of(raw) for key, raw in seen.items() if key.startswith(CLAIM) and key != claim_key}
                rivals = [claim for claim in claims.values() if claim is not None and claim.alive]
                if not rivals:
                    lease = lease_of(seen.get(APPLY))
                    self.checkpoints = dict(lease.checkpoints) if lease else {}
                    self.trials = dict(lease.trials) if lease else {}
                    return self._write(dict.fromkeys([claim_key, *claims]))
            except BaseException:
                with contextlib.suppress(Exception):  # the first failure says more
                    self._client.update_collection(self._name, metadata={claim_key: None})
                raise
            update_metadata(self._client, self._name, {claim_key: None})
            time.sleep(random.uniform(0, MOST_PAUSE))  # else the same rivals would meet again
        raise _running(self._name, rivals[0])

    def _require_free(self, seen: Mapping[str, Any]) -> None:
        lease = lease_of(seen.get(APPLY))
        if lease is not None and lease.alive:
            raise _running(self._name, lease)

    def _write(self, more: Mapping[str, Any] | None = None, *, released: bool = False) -> None:
        """Write the lease, with `more` keys in the same call.

        Raises:
            ApplyRunning: another process wrote its own over it.
        """
        try:
            update_metadata(self._client, self._name, {APPLY: self._described(released=released), **(more or {})})
        except StoreUnavailable:
            self.require()
            raise

    def _note(self) -> None:
        """Write the lease without waiting for all nodes: the next holder sees all that came before its claim."""
        self._client.update_collection(self._name, metadata={APPLY: self._described()})

    def _described(self, *, released: bool = False) -> dict[str, Any]:
        record = LeaseRecord(
            token=self._token,
            by=who(),
            host=socket.gethostname(),
            place=process_scope(),
            pid=os.getpid(),
            at=timestamp(),
            released=released,
            checkpoints=self.checkpoints,
            trials=self.trials,
        )
        return record.model_dump(mode="json")

    def _keep_alive(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with self._lock:
                if self._over.is_set():
                    return
                try:
                    self._require_fresh()
                    self._note()
                except BaseException:  # the work itself will raise the same; the heartbeat must go on
                    continue


_taking = threading.Lock()


def _clock() -> float:
    """Seconds, also of a suspended machine, which `time.monotonic` leaves out on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _running(name: str, lease: LeaseRecord) -> ApplyRunning:
    return ApplyRunning(
        "a swap is being applied to the collection already",
        where=f"collection {name!r}",
        got=f"process {lease.pid} of {lease.by}, last heard of at {lease.at}",
        expected="one apply at a time",
        do=f"wait until it ends; if it is dead, try again {STALE.seconds} s after it was last heard of",
        holder=lease,
    )


class Checkpoint(Record):
    """How far the back-fill of one vector is: points below `offset` are done; None at the start.

    `repairing` are points that lacked the vector and are being given it just now.
    """

    offset: StoredId | None = None
    done: int = 0
    complete: bool = False
    repairing: tuple[StoredId, ...] = ()


class TriedStorage(Record):
    """A live vector whose storage was changed so that the gate can measure it, and how to restore it.

    Args:
        wanted: the storage section that is being tried.
        before: Qdrant's parameters from before, as `update_collection` takes them; of a `sparse` vector, `on_disk`.
    """

    wanted: dict[str, Any]
    before: dict[str, Any]
    sparse: bool = False


class LeaseRecord(Record):
    """The record in the metadata: who applies, last sign of life, whether it ended, checkpoints and trials.

    Checkpoints and trials are by vector.
    """

    token: str
    by: str
    host: str
    place: str = ""
    pid: int
    at: str
    released: bool = False
    checkpoints: dict[str, Checkpoint] = Field(default_factory=dict)
    trials: dict[str, TriedStorage] = Field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the holder may still be running."""
        if self.released:
            return False
        if (self.host, self.place) == (socket.gethostname(), process_scope()):
            if self.pid == os.getpid():
                return self.token in HELD
            if os.name != "nt":  # there a signal would end the process; the heartbeat alone must tell
                try:
                    os.kill(self.pid, 0)
                except ProcessLookupError:
                    return False
                except PermissionError:  # it runs, as another user
                    pass
        return datetime.now(UTC) - datetime.fromisoformat(self.at) < STALE


def read_lease(client: QdrantBase, name: str) -> LeaseRecord | None:
    """The lease in the metadata, even of a dead holder; None without one."""
    return lease_of(raw_metadata(client, name).get(APPLY))


def lease_of(raw: Any) -> LeaseRecord | None:
    """The lease, or claim, that a value of the metadata holds; None for a value of another form."""
    try:
        return LeaseRecord.model_validate(raw) if raw else None
    except ValidationError:
        return None  # written by a release with another format; its work is found again by reading the points


def process_scope() -> str:
    """The scope in which process numbers are unique: containers may share a host name and each have a process 1."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux; there a host has one set of numbers
        return ""
