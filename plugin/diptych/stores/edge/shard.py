"""One open EdgeShard that can be exchanged for another while it is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import qdrant_edge as edge

from diptych.errors import DiptychError, StoreError
from diptych.stores.edge.faults import explain
from diptych.stores.edge.gate import Gate

Answer = TypeVar("Answer")


class Shard:
    """Reads go on together, writes one after another, an exchange alone.

    While a journal is kept, each write is recorded after Edge has acknowledged it, so it can be done again elsewhere.
    """

    def __init__(self, opened: Any, collection: str) -> None:
        self._edge, self.collection = opened, collection
        self._gate, self._writes = Gate(), RLock()
        self._journal: list[Any] | None = None
        self._open = True

    def read(self, ask: Callable[[Any], Answer]) -> Answer:
        """What `ask` gets from the EdgeShard; its failures are told as ours."""
        self._gate.enter()
        try:
            return self._call(ask, reading=True)
        finally:
            self._gate.leave()

    def write(self, *operations: Any) -> None:
        """Apply operations in order. When this returns they are in Edge's write-ahead log."""
        with self._writes:
            for operation in operations:
                self._call(partial(_update, operation), reading=False)
                if self._journal is not None:
                    self._journal.append(operation)

    def exclusive(self, act: Callable[[Any], Answer]) -> Answer:
        """What `act` gets from the EdgeShard while nobody writes; others may read."""
        with self._writes:
            return self._call(act, reading=False)

    @contextmanager
    def journaling(self, copy: Callable[[], None]) -> Iterator[list[Any]]:
        """Flush, `copy()` the folder while nobody writes, then record every write until the end."""
        with self._writes:
            self._call(lambda opened: opened.flush(), reading=False)
            copy()
            journal = self._journal = []
        try:
            yield journal
        finally:
            self._journal = None

    def exchange(self, prepare: Callable[[Any], Any]) -> None:
        """Put the EdgeShard that `prepare(old)` returns in place of the old one, with nobody else inside."""
        with self._writes, self._gate.alone():
            self._edge = prepare(self._edge)

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
            return act(self._edge)
        except DiptychError:
            raise
        except Exception as raw:
            raise explain(raw, self.collection, reading=reading) from raw


def _update(operation: Any, opened: Any) -> None:
    opened.update(operation)


def load(folder: Path, config: Any = None) -> Any:
    """The EdgeShard in `folder`, with other settings when `config` is given."""
    try:
        return edge.EdgeShard.load(str(folder), config)
    except Exception as raw:
        raise StoreError("the embedded store cannot open a collection", where=folder, got=raw) from raw


def create(folder: Path, config: Any) -> Any:
    """A new EdgeShard in `folder`."""
    try:
        return edge.EdgeShard.create(str(folder), config)
    except Exception as raw:
        raise StoreError("the embedded store cannot create a collection", where=folder, got=raw) from raw
