"""`CollectionPopulate`: the methods of `Collection` that populate it, blocking or awaited by an event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sized
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, Unpack

from diptych import frames
from diptych.collection.documents import CollectionDocuments
from diptych.errors import PopulateError
from diptych.reports import PopulateReport
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.populate import Engine, Progress, Rejected

Result = TypeVar("Result")
BATCH = 64  # documents fetched from the loop at once
_PAUSE = 0.05  # seconds between two checks whether the waiting task was cancelled

LOG = logging.getLogger("diptych.populate")
_SHOWN = 3  # rejected documents that the log names
_LONGEST = 200  # characters of a reason in the log
Row: TypeAlias = "Document | Mapping[str, Any] | Rejected"
Documents: TypeAlias = "Iterable[Row] | frames.Frame"


def log_report(report: PopulateReport, *, rejected: bool = True) -> None:
    """Log what a program that leaves reports alone would never see: warnings, and documents that were rejected.

    Args:
        report: of a populate.
        rejected: whether to log reasons, which may quote documents; not where logs hold nothing of users'.
    """
    for warning in report.warnings:
        LOG.warning("collection %r: %s", report.collection, warning)
    if not report.set_aside or not rejected:
        return
    verb = "would be" if report.dry_run else "was" if report.set_aside == 1 else "were"
    shown = [f"{one.id!r}" if one.id else f"number {one.position}" for one in report.examples[:_SHOWN]]
    shown = [f"{name}: {one.reason[:_LONGEST]}" for name, one in zip(shown, report.examples, strict=False)]
    shown += [f"{report.set_aside - len(shown):,} more"] if report.set_aside > len(shown) else []
    file = f". All of them, with the reasons, are in {report.report_file}" if report.report_file else ""
    told = f"{report.set_aside:,} of {report.read:,} documents {verb} rejected: {'; '.join(shown)}{file}"
    LOG.warning("collection %r: %s", report.collection, told)


class PopulateOptions(TypedDict, total=False):
    """What a populate takes besides its documents.

    Args:
        sync: also delete the documents that are no longer among them.
        dry_run: count what a run would do and write nothing.
        max_deleted: the largest share of the collection that `sync` may delete; the config's unless given.
        drop_media: documents may lose media that slots read. Otherwise a run in which many would is refused.
        progress: receives the progress of each stage.
        report_path: file for rejected documents, a JSON line each with the reason.
        engine: what encodes and writes; threads of this process unless given.
        tenant: whose documents they all are, in a collection with tenants: those that name another are rejected.
    """

    sync: bool
    dry_run: bool
    max_deleted: float | None
    drop_media: bool
    progress: Progress | None
    report_path: str | Path | None
    engine: Engine | None
    tenant: str | None


class CollectionPopulate(CollectionDocuments):
    """The part of `Collection` that writes documents."""

    def populate(self, documents: Documents, **options: Unpack[PopulateOptions]) -> PopulateReport:
        """Write documents: new and changed ones are encoded, unchanged ones are left alone.

        What the report warns of is also logged, as `diptych.populate`, and so are the first rejected documents. See
        `diptych.populate`.

        Args:
            documents: documents, or mappings that say the same: {"id" or "_id", "text", "title"?, other keys}. A data
                frame is read by its columns `id` or `_id`, `text` and `title`; see `diptych.frames` for others.
            options: `sync`, `dry_run`, `max_deleted`, `drop_media`, `progress`, `report_path`, `engine` and `tenant`;
                see `diptych.collection.populate_methods.PopulateOptions`.

        Raises:
            SyncRefused: `sync` would delete a larger share.
            PopulateError, ContractError, TenantError: see `diptych.populate`; run it again to continue.
        """
        from diptych.populate import populate

        options["tenant"] = self._tenant(options.get("tenant"))
        rows: Any = frames.documents(documents) if frames.is_frame(documents) else documents
        report = populate(self.handle, rows, **options)
        log_report(report)
        return report

    async def apopulate(
        self, documents: Documents | AsyncIterable[Row], **options: Unpack[PopulateOptions]
    ) -> PopulateReport:
        """Run `populate` in a thread without blocking the event loop.

        A cancelled task ends the run at the next document and keeps what the store has acknowledged.

        Args:
            documents: as in `populate`, or an async iterable of them.
            options: as in `populate`.

        Raises:
            SyncRefused, PopulateError, ContractError, TenantError: as `populate`.
        """
        rows: Any = frames.documents(documents) if frames.is_frame(documents) else documents
        return await populate_in_thread(partial(self.populate, **options), rows)


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
        if iter(documents) is documents:
            documents = _until(documents, cancelled)
        else:
            documents = (_Counted if isinstance(documents, Sized) else _Documents)(documents, cancelled)
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
    """Yield the items of an async iterator of the loop to a thread, a batch at a time."""

    async def batch() -> list[object]:
        found: list[object] = []
        async for document in source:
            found.append(document)
            if len(found) == BATCH:
                break
        return found

    size = BATCH
    while size == BATCH:
        future = asyncio.run_coroutine_threadsafe(batch(), loop)
        while not futures.wait([future], _PAUSE).done:
            if cancelled.is_set():
                future.cancel()
                raise _stopped()
        size = len(found := future.result())
        yield from found


class _Documents:
    """Documents that can be read several times, each time until the task is cancelled."""

    def __init__(self, documents: Iterable[object], cancelled: threading.Event) -> None:
        self._documents, self._cancelled = documents, cancelled
        self.name = str(getattr(documents, "name", type(documents).__name__))  # how messages name the source

    def __iter__(self) -> Iterator[object]:
        return _until(self._documents, self._cancelled)


class _Counted(_Documents):
    """The same for documents whose number is known."""

    def __len__(self) -> int:
        assert isinstance(self._documents, Sized), "only what has a length is counted"
        return len(self._documents)


def _until(documents: Iterable[object], cancelled: threading.Event) -> Iterator[object]:
    """Yield the documents, and raise once the task is cancelled."""
    for document in documents:
        if cancelled.is_set():
            raise _stopped()
        yield document


def _stopped() -> PopulateError:
    return PopulateError("the task that awaited the populate was cancelled", do="run it again: it continues from there")
