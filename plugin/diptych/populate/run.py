"""`populate`: the whole path from documents to points.

    source ──▶ validate ──▶ compare hashes ──▶ encode, a thread for each slot ──▶ upload, in order, with retries
                  │                │                    │                              │
                  │                └─▶ unchanged: skipped                              └─▶ acknowledged: in the report
                  └─▶ rejected: id and reason in the report ◀── a failing piece is halved until the bad one is alone

A point's id follows from the document's id, and its payload holds a hash of the content, so the collection is its own
checkpoint: a run that was killed is repeated, skips what was written, and loses at most the chunk under way.
Picture: docs/architecture.md, "Populate"; reasons: docs/decisions.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from diptych.errors import CollectionNotFound, DiptychError, PopulateError, StoreError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import search_with_unfit
from diptych.handle.view import scope
from diptych.populate.disk_room import with_room
from diptych.populate.encode import Engine, Targets, Threads
from diptych.populate.index import LOOKUP, Changes, Indexer, MediaLosses
from diptych.populate.read_ahead import (
    Measure,
    Spool,
    batched,
    calibrated,
    length_of,
    require_documents,
    shift_warnings,
    with_progress,
)
from diptych.populate.rejects import Rejected, Rejects, reason_of, report_file
from diptych.populate.store import Store
from diptych.populate.sync import Sync, share_of
from diptych.populate.validate import Item, SeenIds, Tally, Validator
from diptych.registry import notify_failure
from diptych.reports import PopulateReport
from diptych.runtime.phases import Progress, Unwatched, phase
from diptych.slots.encode import provide_texts, take_sample
from diptych.slots.unread import text_advice, unfit_slots, vocabulary_warnings
from diptych.stores.cluster_client import require_shard_key
from diptych.stores.retired_vectors import drop_retired
from diptych.stores.server_errors import is_conflict
from diptych.stores.versions import is_local, optimized
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_client.client_base import QdrantBase

    from diptych.protocols import Statistics

_LOCKS: WeakKeyDictionary[QdrantBase, threading.RLock] = WeakKeyDictionary()
_MAKING = threading.Lock()
T = TypeVar("T")
PATIENCE, PAUSE = 30.0, 0.1  # seconds to wait for a collection that another process is creating, and between checks


def populate(
    handle: CollectionHandle,
    documents: Iterable[Document | Mapping[str, Any] | Rejected],
    *,
    sync: bool = False,
    progress: Progress | None = None,
    report_path: str | Path | None = None,
    engine: Engine | None = None,
    tenant: str | None = None,
    dry_run: bool = False,
    max_deleted: float | None = None,
    drop_media: bool = False,
) -> PopulateReport:
    """Fill the collection: new and changed documents are encoded and written, unchanged ones left alone.

    A document that cannot be indexed is rejected: the report file names it with the reason, and the run goes on.

    Args:
        handle: the collection; it is created when it does not exist.
        documents: any iterable; see `open_source` for files. Memory stays bounded however many there are.
        sync: also delete the documents that the source no longer has; with `tenant`, that tenant's only. The source is
            read once beforehand, so nothing is written if too many would be deleted.
        progress: receives the progress.
        report_path: file for rejected documents, by default `diptych-set-aside-<collection>.jsonl`; if an earlier run
            of this process wrote that one, `...-2.jsonl`.
        engine: encodes and writes; by default threads of this process, see `diptych.populate.ray_engine`.
        tenant: the tenant of all documents; those that name none get it, those of another are rejected.
        dry_run: only count what a run would do. Nothing is encoded or written; rejected documents go into a file only
            with `report_path`.
        max_deleted: share of the collection's documents that `sync` may delete, instead of the config's; 1 allows all.
        drop_media: documents may lose media that slots read. Otherwise a run in which many would is refused.

    Raises:
        SyncRefused: `sync` would delete more than that; it deleted nothing.
        PopulateError: store, source or an encoder failed for good, or many documents would lose their media. What was
            acknowledged is kept; run again.
        ContractError: an encoder returned what its contract forbids.
        TenantError: a tenant where there are none; `sync` without one where they are required.
    """
    tenancy = handle.view.tenancy
    if tenant is not None or (sync and tenancy is not None and tenancy.required):
        scope(tenancy, handle.view.layout, tenant, f"collection {handle.name!r}{', sync' if sync else ''}")
    share = handle.populate_config.max_deleted if max_deleted is None else share_of(max_deleted)
    path = Path(report_path) if report_path else (None if dry_run else report_file(handle.name))
    with ExitStack() as stack:
        # An existing collection needs no lock: point ids are fixed, so two runs at worst write the same point twice.
        if not handle.exists or is_local(handle.client):
            stack.enter_context(populate_lock(handle))
        rejects = stack.enter_context(Rejects(path, keep=report_path is None))
        losses = partial(MediaLosses, allowed=drop_media, dry_run=dry_run)
        run = _Run(handle, progress or Unwatched(), rejects, stack, engine, tenant, share if sync else None, losses)
        if dry_run:
            run.compare(documents)
            return replace(run.report(), dry_run=True)
        started = time.time_ns()
        try:
            run.fill(documents)
        except Exception as error:
            notify_failure(handle.registry, handle.name, "populate", error, started)
            if isinstance(error, DiptychError):
                kept = f"{run.tally.acknowledged} documents were acknowledged by the store in this run and are kept"
                error.add_note(kept)
            raise
        report = run.report()
        failures = handle.registry.tell("diptych_after_populate", report)
        return replace(report, warnings=(*report.warnings, *failures)) if failures else report


class _Run:
    """One run of populate: its parts and its counts."""

    def __init__(
        self,
        handle: CollectionHandle,
        progress: Progress,
        rejects: Rejects,
        stack: ExitStack,
        engine: Engine | None,
        tenant: str | None,
        max_deleted: float | None,
        losses: Callable[[Store], MediaLosses],
    ) -> None:
        self._handle, self._progress, self._stack, self._tenant = handle, progress, stack, tenant
        self._started, self._began = time.perf_counter(), time.time_ns()
        self._seen, self._rejects = stack.enter_context(SeenIds()), rejects
        self.tally, self._warnings = Tally(), list[str]()
        self._expected: int | None = None  # documents to index, if that is known beforehand
        self._stopped = threading.Event()
        self._store = Store.of(handle, self._stopped)
        self._sync = None if max_deleted is None else Sync(self._store, tenant, max_deleted)
        self._engine, self._losses = engine or Threads(), losses(self._store)
        self._targets: Targets | None = None
        self._looked, self._held = time.monotonic(), 0  # when the collection was read, and how many points it had
        self._indexes: Mapping[str, models.PayloadIndexInfo] | None = None

    def fill(self, documents: Iterable[object]) -> None:
        """Read everything, write what is new, then delete, warn and optimise."""
        # To another process's cut-over, which brings other slots.
        info = self._look(partial(self._handle.catch_up, self._handle.info))
        if info is not None:
            self._held, self._indexes = info.points_count or 0, info.payload_schema
            self._store.request(partial(require_shard_key, self._handle.client, self._handle.name))
        items, measure = self._items(documents)
        # The first item is pulled before anything is created: an empty source must not leave an empty collection.
        if (first := next(items, None)) is not None:
            items = chain([first], items)
            self._index(with_room(self._handle, documents, self._expected, items, self._held), measure)
        if not self._handle.exists:
            self._warnings.append("no document can be indexed, so the collection was not created")
            return
        if self._sync is not None:
            self._warnings += self._sync.delete(self._seen, self.tally.read, self._rejects)
        elif not self.tally.read:
            self._warnings.append("nothing was read: the source is empty")
        self._held += self.tally.new - (self._sync.deleted if self._sync is not None else 0)
        if measure.slots and (self.tally.new or self.tally.changed):
            self._warnings += shift_warnings(measure.slots, measure.sums, self._held)
        with phase("optimise the store"):  # also where nothing was new: an earlier run may have been killed before this
            self._warnings += filter(None, [optimized(self._handle.client, self._handle.name)])
        self._warnings += drop_retired(self._handle.client, self._handle.name, self._handle.read)

    def compare(self, documents: Iterable[object]) -> None:
        """Read everything and count what `fill` would write and delete."""
        self._look(self._handle.read)
        require_documents(documents)
        validator = Validator(self._handle, self._seen, self._rejects, self.tally, tenant=self._tenant)
        changes = Changes(self._store, self._rejects, self.tally, Unwatched(), self._losses)
        entries = with_progress(documents, "read", self._progress)
        items, metadata = validator.items(entries), self._handle.view.metadata
        for item in items if metadata is None else changes.among(batched(items, LOOKUP), metadata):
            self.tally.new += item.new
            self.tally.changed += not item.new
        self._warnings += self._losses.warnings()
        if self._sync is not None and self._handle.exists:
            self._warnings += self._sync.compare(self._seen, self.tally.read, self._rejects)
        elif not self.tally.read:
            self._warnings.append("nothing was read: the source is empty")

    def report(self) -> PopulateReport:
        """The counts."""
        tally, rejects, targets, cache = self.tally, self._rejects, self._targets, self._handle.cache
        busy = targets.busy() if targets else {}
        encoded = {name: 0 for name, slot in self._handle.view.slots.items() if slot.kind != "text_index"}
        return PopulateReport(
            collection=self._handle.name,
            read=tally.read,
            new=tally.new,
            changed=tally.changed,
            unchanged=tally.unchanged,
            duplicates=tally.duplicates,
            deleted=self._sync.deleted if self._sync else 0,
            set_aside=rejects.count,
            examples=tuple(rejects.examples),
            report_file=rejects.report_file,
            seconds=time.perf_counter() - self._started,
            encoded={**encoded, **tally.encoded},
            cache_hits=targets.cache_hits() if targets else {},
            warnings=(*self._warnings, *(cache.take_warnings() if cache else ())),
            started=self._began,
            encode_seconds={name: found.seconds for name, found in busy.items()},
            encode_times={name: (found.began, found.ended) for name, found in busy.items()},
            unread=targets.unread() if targets else {},
            deleted_examples=tuple(self._sync.examples) if self._sync else (),
        )

    def _look(self, read: Callable[[], T]) -> T | None:
        """What `read` returns of the collection, None before it exists.

        Raises:
            CollectionNotFound: an old one was deleted.
        """
        handle, self._looked = self._handle, time.monotonic()
        if not handle.exists:
            return None
        try:
            return self._store.request(read)
        except PopulateError as error:
            cause, where = error.__cause__, f"collection {handle.name!r}"
            if isinstance(cause, CollectionNotFound):
                do = "open it again and populate: Collection.open(config).populate(...)"
                cause = CollectionNotFound("the collection was deleted since it was opened", where=where, do=do)
            if isinstance(cause, DiptychError) and not isinstance(cause, StoreError):
                raise cause from None  # not the store's fault
            raise

    def _items(self, documents: Iterable[object]) -> tuple[Iterator[Item], Measure]:
        """The items to index, and the corpus statistics: complete for a new collection.

        For an existing collection the statistics grow as items pass. The statistics of a new collection and the sync of
        an existing one need the whole source beforehand: it is read twice or, if it can be read once only, spooled.
        """
        require_documents(documents)
        self._expected = length_of(documents)
        measure = Measure(calibrated(self._handle))
        validator = Validator(self._handle, self._seen, self._rejects, self.tally, tenant=self._tenant)
        ahead = self._sync is not None if self._handle.exists else bool(measure.slots)
        if not ahead:
            return measure.watch(validator.items(with_progress(documents, "read", self._progress))), measure
        entries = with_progress(documents, "measure", self._progress)
        if iter(documents) is documents:
            spool = self._stack.enter_context(Spool())
            self._expected = spool.fill(measure.watch(validator.items(entries)))
            if self._sync is not None and self._handle.exists:
                self._sync.check(self._seen, self.tally.read, self._rejects)
            return spool.items(), measure
        with SeenIds() as seen:
            # Separate counters: what this first reading counts and rejects would appear twice in the report.
            tally, rejects = Tally(), Rejects(None)
            trial = Validator(self._handle, seen, rejects, tally, tenant=self._tenant)
            self._expected = sum(1 for _ in measure.watch(trial.items(entries)))
            if self._sync is not None and self._handle.exists:  # before anything is written
                self._sync.check(seen, tally.read, rejects)
        return validator.items(with_progress(documents, "read", self._progress)), measure

    def _index(self, items: Iterable[Item], measure: Measure) -> None:
        is_new = not self._handle.exists
        try:
            is_first = is_new or not (self._held or self._store.count())
            if is_first:  # encoders that need sample texts read some items
                encoders = [slot.encoder for slot in self._handle.view.slots.values()]
                first, items = take_sample(encoders, items)
                self._handle.texts.coming = [item.document for item in first]
                for encoder in encoders:
                    provide_texts(encoder, self._handle.texts, self._handle.view.reading)
            is_new = is_new and create_once(self._handle, measure.sums)
            if not is_new:
                self._handle.ensure_indexes(self._indexes)
                self._handle.keep_pipeline()
        except DiptychError:
            raise
        except Exception as error:
            raise PopulateError(
                "the collection cannot be made ready", where=f"collection {self._handle.name!r}", got=reason_of(error)
            ) from error
        self._progress.begin("index", self._expected)
        self._targets = targets = self._store.request(partial(Targets, self._handle, self._looked))
        indexer = Indexer(self._handle, self._store, self._rejects, self.tally, self._progress, targets, self._losses)
        indexer.index(items, self._engine, is_new=is_new, stopped=self._stopped)
        self._warnings += [*self._losses.warnings(), *targets.keep_unread()]
        if is_first:  # slots unfit for the first texts get little weight unless the config decides
            handle = self._handle
            retrieved = handle.search_config.retrieved(handle.slots)
            slots, search = [*map(handle.slot, retrieved)], handle.config.search if handle.config else None
            unfit = self._store.request(partial(unfit_slots, slots, handle.texts, search=search))
            if weighted := search_with_unfit(handle.config, handle.search_config, unfit):
                handle.keep_pipeline(weighted)
            self._warnings += vocabulary_warnings(unfit, handle.search_config, len(retrieved))
            self._warnings += self._store.request(partial(text_advice, slots, handle.texts))


@contextmanager
def populate_lock(handle: CollectionHandle) -> Iterator[None]:
    """Wait for other populates through the same client that would conflict, and make later ones wait.

    While the collection does not exist, both would create it; and local mode cannot take two writes at once.
    """
    with _MAKING:
        lock = _LOCKS.setdefault(handle.client, threading.RLock())
    with lock:
        if not handle.exists and handle.client.collection_exists(handle.name):
            handle.require()  # the run before created it
        yield


def create_once(handle: CollectionHandle, statistics: Mapping[str, Statistics]) -> bool:
    """Create the collection; False if another process was faster, whose collection is then used."""
    try:
        handle.create(statistics)
    except Exception as error:
        # A server refuses a second creator before the new collection is visible.
        due = time.monotonic() + (PATIENCE if is_conflict(error) else 0.0)
        while not handle.client.collection_exists(handle.name):
            if time.monotonic() >= due:
                raise
            time.sleep(PAUSE)
        handle.require()
        return False
    return True
