"""`Lease`: only one process applies a swap at a time; its checkpoints and trials outlive the process.

Lease and checkpoints are stored in the collection's metadata under a key that only the holder writes. Qdrant has no
compare-and-set, so a process that takes the lease waits a moment and checks whether it wrote last.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError

from diptych.errors import ApplyRunning
from diptych.handle.create import now, who
from diptych.metadata.models import APPLY, Record
from diptych.metadata.store import raw_metadata

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

STALE = timedelta(seconds=90)  # without a sign of life for so long, the holder is taken for dead
HEARTBEAT = 15.0  # seconds
SETTLE = 0.3  # seconds in which a rival's write would show
_held: set[str] = set()  # tokens of this process


class Checkpoint(Record):
    """How far the back-fill of one vector is: points below `offset` are done; None at the start.

    `repairing` are points that lacked the vector and are being given it just now.
    """

    offset: int | str | None = None
    done: int = 0
    complete: bool = False
    repairing: tuple[int | str, ...] = ()


class Trial(Record):
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
    trials: dict[str, Trial] = Field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the holder may still be running."""
        if self.released:
            return False
        if (self.host, self.place) == (socket.gethostname(), place()):
            if self.pid == os.getpid():
                return self.token in _held
            if not _runs(self.pid):
                return False
        return datetime.now(UTC) - datetime.fromisoformat(self.at) < STALE


def read_lease(client: QdrantBase, name: str) -> LeaseRecord | None:
    """The lease in the metadata, even of a dead holder; None without one."""
    raw = raw_metadata(client, name).get(APPLY)
    try:
        return LeaseRecord.model_validate(raw) if raw else None
    except ValidationError:
        return None  # written by a release that keeps it otherwise; what it did is found out anew


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
        self.trials: dict[str, Trial] = {}

    def __enter__(self) -> Self:
        try:
            with _taking:
                self._refuse_if_held()
                found = read_lease(self._client, self._name)
                self.checkpoints = dict(found.checkpoints) if found else {}
                self.trials = dict(found.trials) if found else {}
                _held.add(self._token)
                self._write()
            time.sleep(SETTLE)
            self.require()
        except BaseException:
            _held.discard(self._token)
            raise
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lease; the checkpoints stay for the next holder, unless `forget` has removed them."""
        self._over.set()
        self._beat.join()
        with contextlib.suppress(Exception):  # of a store that fails the work itself has told
            self._release()
        _held.discard(self._token)

    def require(self) -> None:
        """Raise ApplyRunning when another process has taken the lease."""
        found = read_lease(self._client, self._name)
        if found is not None and found.token != self._token:
            raise _running(self._name, found)

    def checkpoint(self, progress: Mapping[str, Checkpoint]) -> None:
        """Store the progress of these vectors.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        self.require()
        with self._lock:
            self.checkpoints.update(progress)
            self._write()

    def repairing(self, vectors: Iterable[str], points: Sequence[int | str]) -> None:
        """Store which points are being given these vectors; none when that is done.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        self.require()
        with self._lock:
            for vector in vectors:
                reached = self.checkpoints.pop(vector, Checkpoint()).model_copy(update={"repairing": tuple(points)})
                if reached != Checkpoint():
                    self.checkpoints[vector] = reached
            self._write()

    def repaired(self, vectors: Iterable[str]) -> list[int | str]:
        """The points at which a repair of these vectors was interrupted."""
        known = (self.checkpoints[vector].repairing for vector in vectors if vector in self.checkpoints)
        return list(dict.fromkeys(point for points in known for point in points))

    def trying(self, trials: Mapping[str, Trial]) -> None:
        """Store which vectors have other storage for a trial, so that a kill does not leave it; none ends the trial.

        Raises:
            ApplyRunning: another process has taken the lease.
        """
        self.require()
        with self._lock:
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

    def _refuse_if_held(self) -> None:
        found = read_lease(self._client, self._name)
        if found is not None and found.alive:
            raise _running(self._name, found)

    def _release(self) -> None:
        found = read_lease(self._client, self._name)
        if found is None or found.token != self._token:
            return
        if self.checkpoints or self.trials:
            self._write(released=True)
        else:
            self._client.update_collection(self._name, metadata={APPLY: None})

    def _write(self, *, released: bool = False) -> None:
        record = LeaseRecord(
            token=self._token,
            by=who(),
            host=socket.gethostname(),
            place=place(),
            pid=os.getpid(),
            at=now(),
            released=released,
            checkpoints=self.checkpoints,
            trials=self.trials,
        )
        self._client.update_collection(self._name, metadata={APPLY: record.model_dump(mode="json")})

    def _keep_alive(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with self._lock:
                if self._over.is_set():
                    return
                try:
                    self.require()
                    self._write()
                except BaseException:  # the work itself meets what is wrong, and says it; the beat must go on
                    continue


_taking = threading.Lock()


def place() -> str:
    """The scope in which process numbers are unique: containers may share a host name and each have a process 1."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux; there a host has one set of numbers
        return ""


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there a signal would end the process; the heartbeat alone must tell
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _running(name: str, found: LeaseRecord) -> ApplyRunning:
    return ApplyRunning(
        "a swap is being applied to the collection already",
        where=f"collection {name!r}",
        got=f"process {found.pid} of {found.by}, last heard of at {found.at}",
        expected="one apply at a time",
        do=f"wait until it ends; if it is dead, try again {STALE.seconds} s after it was last heard of",
        holder=found,
    )
