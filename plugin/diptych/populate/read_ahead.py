"""`read_ahead` reads a source while a thread processes what was read.

`Spool` keeps the items of a source that can be read only once, so that they can be read again. `Measure` sums
statistics of the corpus for calibrated encoders, which are later compared with those in the collection.
"""

from __future__ import annotations

import json
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from itertools import islice
from typing import TypeVar

from diptych.errors import DiptychError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.payloads import from_rows, to_rows
from diptych.populate.rejects import reason_of
from diptych.populate.validate import Item
from diptych.protocols import Calibrated, Statistics
from diptych.runtime.panics import contained
from diptych.runtime.phases import Progress
from diptych.slots.slot import Slot
from diptych.types import Document

BATCH = 256  # texts measured in one call
TOLERANCE = 0.10  # relative change of an average that is worth a warning
FEWEST = 300  # documents of a collection from which on it is: the average of fewer moves with each of them

STEP = 64  # documents between two calls of a progress
T = TypeVar("T")


class Abandoned(Exception):
    """Raised in the working thread when the source failed or the run was abandoned."""


def read_ahead(
    source: Iterable[T], work: Callable[[Iterator[T]], None], *, room: int, stopped: threading.Event
) -> None:
    """Let `work` iterate over the source in a thread of its own; returns when `work` has returned.

    The source is read in the caller's thread, because some sources, such as an SQLite cursor, work in one thread only,
    and Ctrl-C arrives here.

    Args:
        source: what is read.
        work: receives an iterator over the source, which raises Abandoned when the source fails.
        room: entries that may be read before `work` takes them.
        stopped: set when the source fails, so that waits in later stages end.

    Raises:
        BaseException: what the source or `work` raised.
    """
    # Ctrl-C can break a Semaphore for the other thread.
    places, entries = queue.SimpleQueue[None](), queue.SimpleQueue[tuple[T] | None]()
    for _ in range(room):
        places.put(None)
    ended = abandoned = False
    failures: list[BaseException] = []

    def taken() -> Iterator[T]:
        while (found := entries.get()) is not None:
            if abandoned:
                break
            places.put(None)
            yield found[0]
        if abandoned:
            raise Abandoned

    def run() -> None:
        nonlocal ended
        try:
            work(taken())
        except Abandoned:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            ended = True
            places.put(None)  # the reader may be waiting for room that nobody else would free

    thread = threading.Thread(target=run, name="look up", daemon=True)
    thread.start()
    try:
        for entry in source:
            places.get()
            if ended:
                break
            entries.put((entry,))
        entries.put(None)
        thread.join()
    except BaseException:
        stopped.set()
        abandoned = True
        entries.put(None)
        thread.join()
        raise
    if failures:
        raise failures[0]


def with_progress(documents: Iterable[object], stage: str, progress: Progress) -> Iterator[object]:
    """Yield the documents and report progress; an exception of the source becomes a PopulateError."""
    try:
        progress.begin(stage, length_of(documents))
        read = 0
        for read, document in enumerate(documents, 1):
            yield document
            if read % STEP == 0:
                progress.advance(stage, STEP)
        progress.advance(stage, read % STEP)
    except DiptychError:
        raise
    except Exception as error:
        raise PopulateError(
            "reading the source failed",
            where=getattr(documents, "name", type(documents).__name__),
            got=reason_of(error),
            do="fix the source and run again: what is in the collection is not encoded again",
        ) from error


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def length_of(documents: object) -> int | None:
    """Number of documents, None if unknown. Errors are ignored here; reading reports them."""
    try:
        return len(documents) if isinstance(documents, Sized) else None
    except Exception:
        return None


def require_documents(documents: object) -> None:
    """Raise PopulateError for what can be iterated but holds no documents, such as a path or a single document."""
    if isinstance(documents, Iterable) and not isinstance(documents, str | bytes | Mapping):
        return
    raise PopulateError(
        "the source is not an iterable of documents",
        got=type(documents).__name__,
        expected="an iterable of Document or mapping",
        do="put a single document into a list; read files with diptych.populate.open_source(path)",
    )


class Spool(AbstractContextManager["Spool"]):
    """A file of items, deleted on leaving the block."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="diptych-", suffix=".jsonl")  # noqa: SIM115

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fill(self, items: Iterable[Item]) -> int:
        """Write all items; returns their number."""
        number = 0
        for item in items:
            number += 1
            document = item.document
            content = [
                document.id,
                document.text,
                document.title,
                dict(document.metadata),
                to_rows(document.media),
            ]
            self._file.write(json.dumps([*content, item.hash, item.input, item.point, item.position]) + "\n")
        return number

    def items(self) -> Iterator[Item]:
        """The written items."""
        self._file.seek(0)
        for line in self._file:
            identifier, text, title, metadata, media, content_hash, encoded, point, position = json.loads(line)
            document = Document(identifier, text, title, metadata, from_rows(media))
            yield Item(document, content_hash, encoded, point, position)


class Measure:
    """Adds up `encoder.measure` of each of `slots` over the items that pass through."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self.slots = slots
        self.sums: dict[str, dict[str, float]] = {name: {} for name in slots}

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, measured as they pass."""
        if not self.slots:
            yield from items
            return
        with_text = False
        for batch in batched(items, BATCH):
            texts = [item.input for item in batch if item.input]  # of media alone there is nothing to measure
            with_text = with_text or bool(texts)
            self._add(texts)
            yield from batch
        if not with_text:  # an encoder needs some average to start with; `plan` reports when later texts shift it
            self._add([""])

    def _add(self, inputs: list[str]) -> None:
        for name, slot in self.slots.items():
            self.sums[name] = summed(self.sums[name], slot, inputs)


def summed(sums: Statistics, slot: Slot, inputs: list[str]) -> dict[str, float]:
    """The sums with those of `inputs` added.

    Raises:
        PopulateError: the encoder cannot measure the inputs.
    """
    try:
        with contained(PopulateError, "an encoder crashed while it measured the corpus", where=slot.where):
            more: Statistics = slot.encoder.measure(inputs)
    except DiptychError:
        raise
    except Exception as error:
        raise PopulateError("an encoder cannot measure the corpus", where=slot.where, got=reason_of(error)) from error
    return {key: sums.get(key, 0.0) + more.get(key, 0.0) for key in {**sums, **more}}


def shift(then: Statistics, now: Statistics, points: int) -> dict[str, float]:
    """Relative change of each average per document since the collection was calibrated.

    Documents of the collection that were not measured now, `points` less the measured ones, are taken at their old
    average: a few short documents added to a large collection are no shift.
    """
    before, measured = then.get("documents", 0.0), now.get("documents", 0.0)
    if not before or not measured:
        return {}
    unread = max(0.0, points - measured)
    result = {}
    for key in then:
        average = then[key] / before
        if key != "documents" and average:
            result[key] = (now.get(key, 0.0) + unread * average) / (measured + unread) / average - 1
    return result


def shift_warnings(slots: Mapping[str, Slot], sums: Mapping[str, Statistics], points: int) -> list[str]:
    """A sentence for each average that has moved by more than the tolerance; none while there are few documents."""
    found = []
    for name, slot in slots.items() if points >= FEWEST else ():
        then = slot.generation.statistics if slot.generation else None
        for key, change in shift(then or {}, sums[name], points).items():
            if abs(change) > TOLERANCE:
                found.append(
                    f"slot {name!r}: the average of {key!r} per document is {abs(change):.0%} "
                    f"{'higher' if change > 0 else 'lower'} than when the collection was calibrated; the weights of "
                    "its vectors still use the old one. `diptych plan` shows what it costs to recalibrate, `diptych "
                    "apply` does it."
                )
    return found


def calibrated(handle: CollectionHandle) -> dict[str, Slot]:
    """The slots whose encoders need corpus statistics; in a new collection their encoders are created here."""
    slots = {
        name: slot for name, slot in handle.view.slots.items() if not slot.generation or slot.generation.statistics
    }
    return {name: slot for name, slot in slots.items() if isinstance(slot.encoder, Calibrated)}
