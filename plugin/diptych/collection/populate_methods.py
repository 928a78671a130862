"""`CollectionPopulate`: the methods of `Collection` that populate it, blocking or awaited."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych import frames
from diptych.handle.collection_handle import CollectionHandle
from diptych.reports import PopulateReport, SetAside
from diptych.types import Document

if TYPE_CHECKING:
    from diptych.populate import Engine, Progress, Rejected

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
    if report.set_aside and rejected:
        LOG.warning("collection %r: %s", report.collection, _rejected_sentence(report))


def _rejected_sentence(report: PopulateReport) -> str:
    verb = "would be" if report.dry_run else "was" if report.set_aside == 1 else "were"
    shown = [_named(one) for one in report.examples[:_SHOWN]]
    further = [f"{report.set_aside - len(shown):,} more"] if report.set_aside > len(shown) else []
    file = f". All of them, with the reasons, are in {report.report_file}" if report.report_file else ""
    return f"{report.set_aside:,} of {report.read:,} documents {verb} rejected: {'; '.join([*shown, *further])}{file}"


def _named(rejected: SetAside) -> str:
    name = repr(rejected.id) if rejected.id else f"number {rejected.position}"
    return f"{name}: {rejected.reason[:_LONGEST]}"


class CollectionPopulate:
    """The part of `Collection` that writes documents."""

    handle: CollectionHandle

    def _tenant(self, tenant: str | None) -> str | None:
        """The tenant whose documents are written."""
        return tenant

    def populate(
        self,
        documents: Documents,
        *,
        sync: bool = False,
        dry_run: bool = False,
        max_deleted: float | None = None,
        drop_media: bool = False,
        progress: Progress | None = None,
        report_path: str | Path | None = None,
        engine: Engine | None = None,
        tenant: str | None = None,
    ) -> PopulateReport:
        """Write documents: new and changed ones are encoded, unchanged ones are left alone.

        What the report warns of is also logged, as `diptych.populate`, and so are the first rejected documents. See
        `diptych.populate`.

        Args:
            documents: documents, or mappings that say the same: {"id" or "_id", "text", "title"?, other keys}. A data
                frame is read by its columns `id` or `_id`, `text` and `title`; see `diptych.frames` for others.
            sync: also delete the documents that are no longer among them.
            dry_run: count what a run would do and write nothing.
            max_deleted: the largest share of the collection that `sync` may delete; the config's unless given.
            drop_media: documents may lose media that slots read. Otherwise a run in which many would is refused.
            progress: receives the progress of each stage.
            report_path: file for rejected documents, a JSON line each with the reason.
            engine: what encodes and writes; threads of this process unless given.
            tenant: whose documents they all are, in a collection with tenants: those that name another are rejected.

        Raises:
            SyncRefused: `sync` would delete a larger share.
            PopulateError, ContractError, TenantError: see `diptych.populate`; run it again to continue.
        """
        from diptych.populate import populate

        rows: Any = frames.documents(documents) if frames.is_frame(documents) else documents
        report = populate(
            self.handle,
            rows,
            sync=sync,
            dry_run=dry_run,
            max_deleted=max_deleted,
            drop_media=drop_media,
            progress=progress,
            report_path=report_path,
            engine=engine,
            tenant=self._tenant(tenant),
        )
        log_report(report)
        return report

    async def apopulate(
        self,
        documents: Documents | AsyncIterable[Row],
        *,
        sync: bool = False,
        dry_run: bool = False,
        max_deleted: float | None = None,
        drop_media: bool = False,
        progress: Progress | None = None,
        report_path: str | Path | None = None,
        engine: Engine | None = None,
        tenant: str | None = None,
    ) -> PopulateReport:
        """Run `populate` in a thread without blocking the event loop.

        A cancelled task ends the run at the next document and keeps what the store has acknowledged.

        Args:
            documents: as in `populate`, or an async iterable of them.
            sync, dry_run, max_deleted, drop_media, progress, report_path, engine, tenant: as in `populate`.

        Raises:
            SyncRefused, PopulateError, ContractError, TenantError: as `populate`.
        """
        from diptych.populate.sources.async_source import populate_in_thread

        work = partial(
            self.populate,
            sync=sync,
            dry_run=dry_run,
            max_deleted=max_deleted,
            drop_media=drop_media,
            progress=progress,
            report_path=report_path,
            engine=engine,
            tenant=tenant,
        )
        rows: Any = frames.documents(documents) if frames.is_frame(documents) else documents
        return await populate_in_thread(work, rows)
