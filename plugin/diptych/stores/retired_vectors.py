"""Names of vectors that nothing needs: retired first, and dropped once no write that names them can be replayed.

The metadata lists as `leftover` what diptych made, or is about to make, and no state needs. Those of them that exist
are *orphans*: vectors of a finished, replaced or abandoned generation, and of a swap that was killed before it was
announced. On a server each orphan is *retired*: it has a date from which its wait is counted.

After a crash a Qdrant server replays the end of its log and checks each operation against the vectors that the
collection has by then. One that names a vector dropped since is declined, with all that it says of other vectors and
of payloads: documents that were acknowledged are lost. So a name that the metadata no longer lists is *retired*.
Writers look at the metadata after each write, and write again without a name that was retired meanwhile. Only when
every shard must have flushed what was written before, the name is dropped.

Embedded stores flush before they drop a name, and local mode has no log: both drop at once.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.metadata.models import CollectionMetadata, Record
from diptych.metadata.store import RETIRED, raw_metadata
from diptych.protocols import Kind
from diptych.runtime.phases import phase
from diptych.stores.server_errors import error_line, gave_no_answer, too_old
from diptych.stores.versions import is_server_client

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

# A write waits at most one interval for a flush to begin, and that flush is confirmed one interval later. The third is
# for a flush that takes longer. Trials on 1.18.3: docs/research/servers.md.
FLUSHES = 3
LEAST_INTERVAL = 1.0  # seconds that an interval counts at least
SKEW = 60.0  # seconds by which the clocks of two machines may differ
LOOK = 1.0  # seconds between two looks at the shards
PATIENCE = 120.0  # seconds in which shards that are moved or recovered must come to rest
SILENT = "the server does not answer"


class Retirement(Record):
    """When a name was retired, and by whose clock."""

    at: str
    clock: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The outcome for names that nothing needs.

    Args:
        dropped: these are gone.
        waiting: these are retired, and to be dropped later.
        unnamed: bytes of the numbers of an unnamed vector that a server keeps; None where there is none.
        why: what the waiting ones wait for.
    """

    dropped: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    unnamed: int | None = None
    why: str = ""

    def lines(self) -> tuple[str, ...]:
        """A sentence for each name that still exists."""
        found = []
        if self.waiting:
            names = ", ".join(sorted(self.waiting))
            found.append(
                f"{names}: retired, no longer written; {self.why}. The next diptych finish, apply or populate drops it"
            )
        if self.unnamed is not None:
            found.append(
                f"the unnamed vector stays, {self.unnamed / 1e6:,.3f} MB of numbers that are neither written nor "
                "searched: a Qdrant server has no call that drops it. diptych copy makes a collection without it"
            )
        return tuple(found)


def existing(client: QdrantBase, name: str) -> set[str]:
    """The names of all vectors of the collection; "" is the unnamed one."""
    params = client.get_collection(name).config.params
    dense = params.vectors
    named = set(dense) if isinstance(dense, dict) else ({""} if dense is not None else set())
    return named | set(params.sparse_vectors or {})


def orphans(client: QdrantBase, name: str, metadata: CollectionMetadata) -> dict[str, Kind]:
    """Vectors and payload keys that diptych made and no state needs, with the kind that decides how to drop them.

    Only what the metadata names: vectors of the same form may be a user's own.
    """
    there = existing(client, name) | client.get_collection(name).payload_schema.keys()
    return {v: kind for v, kind in metadata.leftover.items() if v in there and v not in metadata.needed()}


def retirement_dates(
    client: QdrantBase, name: str, metadata: CollectionMetadata, kept: Mapping[str, Any]
) -> dict[str, Any]:
    """The retirement dates to write into the metadata together with a change of the state.

    A name that is about to be created is not there yet, and gets no date.

    Args:
        metadata: the state that is about to be written.
        kept: all the metadata that there is so far.
    """
    if not is_server_client(client) or not (metadata.leftover or kept.get(RETIRED)):
        return {}
    known = kept.get(RETIRED) or {}
    orphaned = [v for v, kind in orphans(client, name, metadata).items() if kind != "text_index"]
    today = Retirement(at=datetime.now(UTC).isoformat(), clock=_machine()).model_dump()
    return {RETIRED: {vector: known.get(vector, today) for vector in orphaned} or None}


def drop_orphans(
    client: QdrantBase,
    name: str,
    metadata: CollectionMetadata,
    *,
    only: Collection[str] | None = None,
    wait: bool = False,
    stopped: threading.Event | None = None,
) -> Dropped:
    """Drop what no state needs, as far as no write that names it can still be replayed.

    Several processes may do this at once.

    Args:
        only: of these names; a caller without the lease must name them, since an apply may be creating others just now.
        wait: until all of it can be dropped; else what cannot be dropped yet stays for the next time.
        stopped: ends the wait.
    """
    found = {v: kind for v, kind in orphans(client, name, metadata).items() if only is None or v in only}
    server, unnamed = is_server_client(client), None
    if server and "" in found:  # servers have no call for an empty name
        del found[""]
        dense = client.get_collection(name).config.params.vectors
        own = dense.get("") if isinstance(dense, dict) else dense
        unnamed = 4 * own.size * client.count(name, exact=False).count if own is not None else 0
    later = [v for v, kind in found.items() if server and kind != "text_index"]
    at_once = sorted(found.keys() - set(later), reverse=True)
    for vector in at_once:
        drop(client, name, vector, found[vector])
    waited = Wait(client, name, wait, stopped or threading.Event()).over(later) if later else Dropped()
    for vector in sorted(waited.dropped, reverse=True):
        drop(client, name, vector, found[vector])
    dropped = (*at_once, *waited.dropped)
    return Dropped(dropped=dropped, waiting=waited.waiting, unnamed=unnamed, why=waited.why)


def drop_retired(
    client: QdrantBase, name: str, read: Callable[[], CollectionMetadata], *, watch: bool = False
) -> tuple[str, ...]:
    """Drop what an earlier finish or apply retired, if the wait is over; returns a warning if that fails.

    `watch` looks at a cluster's shards, which may have moved meanwhile, for as long as the wait was.
    """
    if not is_server_client(client):
        return ()
    try:
        due: Collection[str] = raw_metadata(client, name).get(RETIRED) or {}
        if due and watch:
            due = [vector for vector in due if not Wait(client, name, True, threading.Event()).left(vector)]
        if due:
            drop_orphans(client, name, read(), only=due, wait=watch)
    except Exception as error:
        return (f"all is written, but retired vectors could not be dropped: {error_line(error)}",)
    return ()


def drop(client: QdrantBase, name: str, vector: str, kind: Kind) -> None:
    """Drop a vector, or the copies of texts under a payload key, from the collection and all its points."""
    if kind == "text_index":
        client.delete_payload(name, [vector], points=models.Filter())
        client.delete_payload_index(name, vector)  # last: it shows that there is something to drop
    elif vector in existing(client, name):
        try:
            client.delete_vector_name(name, vector)
        except Exception:
            if vector in existing(client, name):  # else another process was faster
                raise


class Wait:
    """The wait until a server can no longer replay a write that names a retired vector.

    Args:
        client, name: the collection.
        wait: False only looks whether it is over.
        stopped: ends it.
    """

    def __init__(self, client: QdrantBase, name: str, wait: bool, stopped: threading.Event) -> None:
        self._client, self._name, self._wait, self._stopped = client, name, wait, stopped
        interval = client.get_collection(name).config.optimizer_config.flush_interval_sec
        self._whole = FLUSHES * max(LEAST_INTERVAL, interval)
        self._dates: dict[str, Any] = dict(raw_metadata(client, name).get(RETIRED) or {})

    def over(self, vectors: Iterable[str]) -> Dropped:
        """Wait; returns the names that can be dropped now, as `dropped`, and those that still wait."""
        alone, unrest = self._shards()
        # A shard that was moved or recovered has replayed others' logs into its own, whatever the date says. Whether
        # that happened lately only shows while one looks.
        left = {v: self.left(v) if alone else self._whole for v in vectors}
        longest = max(left.values())
        if self._wait and (longest or unrest):
            names = ", ".join(sorted(left))
            with phase(f"wait {longest:.0f} s before {names} is dropped, until the server has flushed writes to it"):
                unrest = self._rest(longest, unrest)
            left = dict.fromkeys(left, 0.0) if not unrest else left
        due = tuple(v for v, seconds in left.items() if not seconds and not unrest)
        waiting = tuple(v for v in left if v not in due)
        return Dropped(dropped=due, waiting=waiting, why=unrest or "the server may still have to flush writes to it")

    def left(self, vector: str) -> float:
        """Seconds until everything written before the retirement is flushed, whatever the shards did meanwhile."""
        if vector not in self._dates:
            return self._whole
        retired = Retirement.model_validate(self._dates[vector])
        age = (datetime.now(UTC) - datetime.fromisoformat(retired.at)).total_seconds()
        age -= 0 if retired.clock == _machine() else SKEW
        return min(max(self._whole - age, 0.0), self._whole)

    def _rest(self, seconds: float, unrest: str) -> str:
        """Wait so long, and again after shards were not at rest; returns what still prevents dropping."""
        due = (begun := time.monotonic()) + seconds
        while True:
            now = time.monotonic()
            due = max(due, now + self._whole) if unrest else due
            if now >= due:
                return ""
            if unrest == SILENT or (unrest and now - begun > seconds + PATIENCE):
                return unrest
            if self._stopped.wait(min(LOOK, due - now)):
                return "the wait was ended"
            _, unrest = self._shards()

    def _shards(self) -> tuple[bool, str]:
        """Whether the node holds all shards itself, and why they are not at rest, if so."""
        try:
            found = self._client.collection_cluster_info(self._name)
        except Exception as error:
            if too_old(error):
                return True, ""
            return False, SILENT if gave_no_answer(error) else f"its shards cannot be looked at: {error_line(error)}"
        shards: list[Any] = [*found.local_shards, *found.remote_shards]
        states = sorted({shard.state.value for shard in shards if shard.state != models.ReplicaState.ACTIVE})
        unrest = f"a replica is {' and another is '.join(states)}" if states else ""
        unrest = unrest or ("a shard is being transferred" if found.shard_transfers else "")
        unrest = unrest or ("the number of shards is being changed" if found.resharding_operations else "")
        return not found.remote_shards, unrest


def _machine() -> str:
    """The machine whose clock is used; containers of one machine share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # no Linux
        return socket.gethostname()
