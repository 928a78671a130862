"""One open EdgeShard that can be exchanged for another while it is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import qdrant_edge as edge

from diptych.errors import DiptychError, StoreError
from diptych.panics import contained
from diptych.stores.edge.faults import MEND, PANICKED, explain
from diptych.stores.edge.gate import Gate

Answer = TypeVar("Answer")


class Shard:
    """Reads go on together, writes one after another, an exchange alone.

    `writes` counts them. While a journal is kept each write is recorded, so that it can be done again elsewhere.
    """

    def __init__(self, opened: Any, collection: str) -> None:
        self._edge, self.collection = opened, collection
        self._gate, self._writes = Gate(), RLock()
        self._journal: Journal | None = None
        self._open, self.writes = True, 0

    def read(self, ask: Callable[[Any], Answer]) -> Answer:
        """What `ask` gets from the EdgeShard; its failures are told as ours."""
        self._gate.enter()
        try:
            return self._call(ask, reading=True)
        finally:
            self._gate.leave()

    def write(self, operation: Any) -> None:
        """Apply an operation. When this returns it is in Edge's write-ahead log."""
        with self._writes:
            self.writes += 1
            if self._journal is not None:
                self._journal.append(operation)
            self._call(lambda opened: opened.update(operation), reading=False)

    def flush(self) -> None:
        """Put into the segments what the write-ahead log holds, so that opening need not do it over."""
        with self._writes:
            self._call(lambda opened: opened.flush(), reading=False)

    @contextmanager
    def journaling(self, copy: Callable[[], None]) -> Iterator[Journal]:
        """Flush, `copy()` the folder while nobody writes, then record every write until the end."""
        with self._writes:
            self._call(lambda opened: opened.flush(), reading=False)
            copy()
            journal = self._journal = Journal()
        try:
            yield journal
        finally:
            self._journal = None

    def exchange(self, folder: Path, prepare: Callable[[], Any]) -> None:
        """Close the EdgeShard, which is in `folder`, and put the one that `prepare()` returns in its place.

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
        """Close and load again with other settings, or as before when Edge refuses them; everyone waits for it."""
        self.exchange(folder, lambda: load(folder, config))

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        with self._writes, self._gate.alone():
            if self._open:
                self._open = False
                self._edge.flush()
                self._edge.close()

    def _call(self, act: Callable[[Any], Answer], *, reading: bool) -> Answer:
        if not self._open:
            raise StoreError("the collection is closed", where=f"collection {self.collection!r}")
        try:
            with contained(StoreError, PANICKED, where=f"collection {self.collection!r}", do=MEND):
                return act(self._edge)
        except DiptychError:
            raise
        except Exception as raw:
            raise explain(raw, self.collection, reading=reading) from raw


class Journal:
    """Writes in their order, to be done again on another EdgeShard.

    A refused write is kept too: Edge may have applied a part of it, and will apply and refuse the same again.
    """

    def __init__(self) -> None:
        self._operations: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._operations)

    def append(self, operation: Any) -> None:
        """Remember a write that is about to be done."""
        self._operations.append(operation)

    def replay(self, opened: Any) -> None:
        """Do what is here now, and forget it."""
        for _ in range(len(self._operations)):
            with suppress(Exception):  # it was refused before, and told to whoever asked for it
                opened.update(self._operations[0])
            self._operations.popleft()


def load(folder: Path, config: Any = None) -> Any:
    """The EdgeShard in `folder`, with other settings when `config` is given."""
    try:
        with contained(StoreError, PANICKED, where=folder, do=MEND):
            return edge.EdgeShard.load(str(folder), config)
    except DiptychError:
        raise
    except Exception as raw:
        raise StoreError("the embedded store cannot open a collection", where=folder, got=raw) from raw


def create(folder: Path, config: Any) -> Any:
    """A new EdgeShard in `folder`."""
    try:
        with contained(StoreError, PANICKED, where=folder, do=MEND):
            return edge.EdgeShard.create(str(folder), config)
    except DiptychError:
        raise
    except Exception as raw:
        raise StoreError("the embedded store cannot create a collection", where=folder, got=raw) from raw
