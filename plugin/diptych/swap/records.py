"""The records of an apply in a collection's metadata: lease, checkpoints, trials, and why a gate refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from diptych.handle.create import timestamp, who
from diptych.metadata.models import Record
from diptych.metadata.store import APPLY, GATE, StoredId, raw_metadata, update_metadata

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


STALE = timedelta(seconds=90)  # without a sign of life for so long, the holder is taken for dead
HELD: set[str] = set()  # tokens of this process


class Checkpoint(Record):
    """How far the back-fill of one vector is: points below `offset` are done; None at the start.

    `repairing` are points that lacked the vector and are being given it just now.
    """

    offset: StoredId | None = None
    done: int = 0
    complete: bool = False
    repairing: tuple[StoredId, ...] = ()


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
        if (self.host, self.place) == (socket.gethostname(), process_scope()):
            if self.pid == os.getpid():
                return self.token in HELD
            if not _runs(self.pid):
                return False
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


class Refusal(Record):
    """What the gate said of the swap that began at `began`, or of settings by their digest; measured at `when` by `by`.

    `judged` is what it said when it last had judgements; empty if the swap passed by them, or there were none.
    """

    began: str
    sentence: str
    when: str
    by: str
    judged: str = ""


def note_refusal(client: QdrantBase, name: str, began: str, sentence: str, judged: str) -> None:
    """Store why the gate refused a swap or settings, and what it said of them by judgements.

    Raises:
        StoreUnavailable: the nodes do not show it in time.
    """
    refusal = Refusal(began=began, sentence=sentence, when=timestamp(), by=who(), judged=judged)
    update_metadata(client, name, {GATE: refusal.model_dump(mode="json")})


def refusal_of(raw: Mapping[str, Any], began: str | None) -> Refusal | None:
    """Why the gate refused this swap, or these settings, when they were last applied; None if it did not.

    Args:
        raw: the whole stored metadata by key.
        began: when the swap began, or the digest of the settings; of another one nothing counts. None: of any.
    """
    try:
        refusal = Refusal.model_validate(raw[GATE]) if raw.get(GATE) else None
    except ValidationError:
        return None  # written by a release with another format
    return refusal if refusal and began in (None, refusal.began) else None
