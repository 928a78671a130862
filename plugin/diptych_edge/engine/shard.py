"""One open EdgeShard that can be exchanged for another while it is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, RLock, local
from typing import Any, TypeVar

import qdrant_edge as edge

from diptych.errors import DiptychError, StoreDamaged, StoreError
from diptych.runtime.panics import contained
from diptych_edge.engine.native_errors import PANICKED, edge_errors, reason
from diptych_edge.health.inspection import REPAIR
from diptych_edge.health.seal import Ledger, trim_log
from diptych_edge.health.wal import use_small_files

Answer = TypeVar("Answer")
JOURNAL, JOURNAL_SHARE = 1 << 20, 4  # bytes of a full journal, or a quarter of the data, if more
PAUSE = 2.0  # seconds that a write waits at most while the journal is full
_OVERHEAD = 1 << 10  # bytes that an operation counts for


class Shard:
    """Reads run together, writes one after another, an exchange alone.

    `writes` counts them, and `ledger` notes each on disk. While a journal is kept each write is recorded, to be done
    again elsewhere.
    """

    def __init__(self, edge_shard: Any, collection: str, ledger: Ledger) -> None:
        self._edge, self.collection, self.ledger = edge_shard, collection, ledger
        self._gate, self._writes = Gate(), RLock()
        self._journal: Journal | None = None
        self._journal_ends = Condition()
        self._open, self.writes = True, 0

    def read(self, call: Callable[[Any], Answer]) -> Answer:
        """The result of `call` on the EdgeShard, with Edge's failures as errors of this package."""
        self._gate.enter()
        try:
            return self._call(call, reading=True)
        finally:
            self._gate.leave()

    def write(self, operation: Any, *, size: int = 0) -> bool:
        """Apply an operation of about `size` bytes. When this returns it is in Edge's write-ahead log.

        Now and then it also flushes, and then returns True. While an optimisation runs, writes that outrun it are
        slowed down, or the disk would fill with what they replace.

        Raises:
            StoreFull: the disk has too little space for it.
        """
        # Wait a little if the journal of an optimisation is full.
        with self._journal_ends:
            self._journal_ends.wait_for(lambda: (journal := self._journal) is None or not journal.full, PAUSE)
        with self._writes:
            if self._open:
                self.ledger.admit(size)
            self.writes += 1
            if self._journal is not None:
                self._journal.append(operation, size)
            self._call(lambda edge_shard: edge_shard.update(operation), reading=False)
            self.ledger.acknowledge(self._edge)
            if not self.ledger.due():
                return False
            # Flush; a log that has outgrown its collection is restarted, for which the shard is reloaded.
            self.flush()
            if self.ledger.overgrown():
                folder = self.ledger.shard
                self.exchange(folder, lambda: (trim_log(folder), load(folder))[1])
                self.ledger.flushed()
            return True

    def flush(self) -> None:
        """Write the write-ahead log's contents into the segments, so that opening need not replay it."""
        with self._writes:
            self._call(lambda edge_shard: edge_shard.flush(), reading=False)
            self.ledger.flushed()

    def rebase(self) -> None:
        """Flush, and accept the current files as the expected ones."""
        with self._writes:
            self.flush()
            self.ledger.rebase()

    @contextmanager
    def journaling(self, copy: Callable[[], None]) -> Iterator[Journal]:
        """Flush, `copy()` the folder while nobody writes, then record every write until the block ends."""
        with self._writes:
            self.flush()
            copy()
            journal = self._journal = Journal(max(JOURNAL, self.ledger.data // JOURNAL_SHARE))
        try:
            yield journal
        finally:
            with self._journal_ends:
                self._journal = None
                self._journal_ends.notify_all()

    def exchange(self, folder: Path, prepare: Callable[[], Any]) -> None:
        """Close the EdgeShard in `folder`, and replace it by the one that `prepare()` returns.

        Memory never holds both, and everyone waits for it. When `prepare` fails all is as before.
        """
        with self._writes, self._gate.alone():
            self._edge.flush()
            self._edge.close()
            try:
                self._edge = prepare()
            except BaseException:
                self._edge = load(folder)
                raise

    def reload(self, folder: Path, config: Any) -> None:
        """Close and load again with other settings, or with the old ones if Edge refuses them; everyone waits."""
        self.exchange(folder, lambda: load(folder, config))

    def replace_ledger(self, ledger: Ledger) -> None:
        """Continue with the ledger of another folder, whose EdgeShard is about to replace this one."""
        self.ledger.abandon()
        self.ledger = ledger

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        with self._writes, self._gate.alone():
            if self._open:
                self._open = False
                with edge_errors(self.collection, reading=False):
                    try:
                        points = int(self._edge.info().points_count)
                        self._edge.flush()
                    finally:  # unflushed too: whoever opens the folder next must be alone
                        self._edge.close()
                        self.ledger.abandon()
                self.ledger.close(points)

    def _call(self, call: Callable[[Any], Answer], *, reading: bool) -> Answer:
        if not self._open:
            raise StoreError("the collection is closed", where=f"collection {self.collection!r}")
        with edge_errors(self.collection, reading=reading):
            return call(self._edge)


class Journal:
    """Writes in order, to be replayed on another EdgeShard.

    A refused write is kept too: Edge may have applied a part of it, and will apply and refuse the same again.

    Args:
        limit: bytes of operations from which it is full.
    """

    def __init__(self, limit: int) -> None:
        self._operations: deque[Any] = deque()
        self._limit, self._size = limit, 0

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def full(self) -> bool:
        """Whether the journal has more than the optimisation should have to replay."""
        return self._size >= self._limit

    def append(self, operation: Any, size: int) -> None:
        """Record a write of about `size` bytes that is about to be done."""
        self._operations.append(operation)
        self._size += size // 2 + _OVERHEAD  # sizes are estimated at twice of what is likely

    def replay(self, edge_shard: Any) -> None:
        """Apply the recorded writes, and drop them."""
        for _ in range(len(self._operations)):
            with suppress(Exception):  # the same refusal was raised to the caller when it was recorded
                edge_shard.update(self._operations[0])
            self._operations.popleft()


def load(folder: Path, config: Any = None) -> Any:
    """The EdgeShard in `folder`, with other settings if `config` is given."""
    use_small_files(folder)
    what = "the embedded store cannot open a collection"
    return _from_edge(lambda: edge.EdgeShard.load(str(folder), config), StoreDamaged, what, folder, REPAIR)


def create(folder: Path, config: Any) -> Any:
    """A new EdgeShard in `folder`."""
    what = "the embedded store cannot create a collection"
    return _from_edge(lambda: edge.EdgeShard.create(str(folder), config), StoreError, what, folder)


def _from_edge(make: Callable[[], Any], kind: type[StoreError], what: str, folder: Path, do: str = "") -> Any:
    try:
        with contained(kind, PANICKED, where=folder, do=do):
            return make()
    except DiptychError:
        raise
    except Exception as raw:
        raise kind(what, where=folder, got=reason(raw), do=do) from raw


# Many readers or one exchange.


_thread = local()  # how many gates this thread is inside of


class Gate:
    """Lets readers through together; `alone()` waits for them and briefly keeps new ones out.

    A thread that already reads, here or at another gate, may enter while another thread waits to be alone. Otherwise
    the two would wait for each other for ever.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._readers = 0
        self._exclusive_waiting = self._exclusive = False

    def enter(self) -> None:
        """Enter as a reader."""
        depth = getattr(_thread, "depth", 0)
        with self._changed:
            while self._exclusive or (self._exclusive_waiting and not depth):
                self._changed.wait()
            self._readers += 1
        _thread.depth = depth + 1

    def leave(self) -> None:
        """Leave as a reader."""
        _thread.depth -= 1
        with self._changed:
            self._readers -= 1
            if self._exclusive_waiting and not self._readers:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclude everyone else within the block."""
        with self._changed:
            while self._exclusive_waiting:
                self._changed.wait()
            self._exclusive_waiting = True
            while self._readers:
                self._changed.wait()
            self._exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive_waiting = self._exclusive = False
                self._changed.notify_all()
