"""`populate_in_thread`: lets an event loop await a populate, whose documents may come from that loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from diptych.errors import PopulateError

Result = TypeVar("Result")
BATCH = 64  # documents fetched from the loop at once
_PAUSE = 0.05  # seconds between two checks whether the waiting task was cancelled


async def populate_in_thread(populate: Callable[[Any], Result], documents: Any) -> Result:
    """Await `populate(documents)` in a thread, without blocking the event loop.

    A task that is cancelled ends the run at the next document: what the store has acknowledged is kept. The run has
    ended when the cancellation comes through, so the collection can be closed.

    Args:
        populate: runs in a thread.
        documents: an iterable or async iterable; the latter is read in the loop, a batch at a time.
    """
    cancelled = threading.Event()
    if isinstance(documents, AsyncIterable):
        documents = _until(_fetched(aiter(documents), asyncio.get_running_loop(), cancelled), cancelled)
    elif isinstance(documents, Iterable) and not isinstance(documents, str | bytes | Mapping):
        documents = _watched(documents, cancelled)
    work = asyncio.ensure_future(asyncio.to_thread(populate, documents))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([work])
        work.exception()  # marks it as seen: the caller gets the cancellation instead
        raise


def _fetched(
    source: AsyncIterator[object], loop: asyncio.AbstractEventLoop, cancelled: threading.Event
) -> Iterator[object]:
    """Yield the items of an async iterator of the loop to a thread."""
    while True:
        batch, over = _result(asyncio.run_coroutine_threadsafe(_batch(source), loop), cancelled)
        yield from batch
        if over:
            return


async def _batch(source: AsyncIterator[object]) -> tuple[list[object], bool]:
    """A batch of documents, and whether it was the last."""
    found: list[object] = []
    async for document in source:
        found.append(document)
        if len(found) == BATCH:
            return found, False
    return found, True


def _result(future: Any, cancelled: threading.Event) -> Any:
    while True:
        try:
            return future.result(timeout=_PAUSE)
        except TimeoutError:
            if future.done():  # the source itself raised it
                return future.result()
            if cancelled.is_set():
                future.cancel()
                raise _stopped() from None


class _Documents:
    """Documents that can be read several times, each time until the task is cancelled."""

    def __init__(self, documents: Iterable[object], cancelled: threading.Event) -> None:
        self._documents, self._cancelled = documents, cancelled

    @property
    def name(self) -> str:
        """How messages name the source."""
        return str(getattr(self._documents, "name", type(self._documents).__name__))

    def __iter__(self) -> Iterator[object]:
        return _until(self._documents, self._cancelled)


class _Counted(_Documents):
    """The same for documents whose number is known."""

    def __len__(self) -> int:
        assert isinstance(self._documents, Sized), "only what has a length is counted"
        return len(self._documents)


def _watched(documents: Iterable[object], cancelled: threading.Event) -> Iterable[object]:
    if iter(documents) is documents:
        return _until(documents, cancelled)
    return (_Counted if isinstance(documents, Sized) else _Documents)(documents, cancelled)


def _until(documents: Iterable[object], cancelled: threading.Event) -> Iterator[object]:
    """Yield the documents, and raise once the task is cancelled."""
    for document in documents:
        if cancelled.is_set():
            raise _stopped()
        yield document


def _stopped() -> PopulateError:
    return PopulateError("the task that awaited the populate was cancelled", do="run it again: it continues from there")
