"""`copy_collection`: the whole path from one collection to another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.copying import target_collection
from diptych.copying.side import (
    CopySide,
    Difference,
    Digest,
    difference,
    rules_of,
    struct,
)
from diptych.copying.target_collection import (
    CopyRecord,
    CopyReport,
    copied_metadata,
    hash_of,
    record_of,
)
from diptych.errors import CopyError
from diptych.handle.create import timestamp, who
from diptych.metadata.store import KEY, read_metadata
from diptych.populate.pace import Pace
from diptych.runtime.phases import Progress, Unwatched
from diptych.stores.retired_vectors import existing, orphans
from diptych.stores.scroll import PointId, plain_id
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import is_local, optimized

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.registry import Registry

EXAMPLES = 5
BATCH, PASSES = 256, 5


@needs_answers("run it again once it does: the copy continues where it stopped")
def copy_collection(
    source: QdrantBase,
    name: str,
    target: QdrantBase,
    target_name: str | None = None,
    *,
    batch: int = BATCH,
    rate: float | None = None,
    verify: bool = True,
    overwrite: bool = False,
    passes: int = PASSES,
    retries: int = 5,
    progress: Progress | None = None,
    registry: Registry | None = None,
    places: tuple[str, str] = ("", ""),
) -> CopyReport:
    """Copy a collection: points with vectors and payloads, settings, payload indexes and metadata.

    Run it again to continue after any interruption; at most one batch is copied twice. Run again when it is done, it
    copies only differences. Until it is done `Collection.open` refuses the target.

    Args:
        source, name: the collection to copy; it is only read.
        target, target_name: where to; `name` unless given. Both clients may be the same.
        batch: points that are read and written at once; memory holds no more, on each side.
        rate: points a second, at most.
        verify: read both sides again, compare all contents, and copy what was written to the source meanwhile.
        overwrite: take the source's points even where the target was changed since it was copied.
        passes: comparisons, at most, before the source counts as never at rest.
        retries: further tries after a failure of a store that may pass.
        progress: receives the progress of the stages.
        registry: where adapters come from; asked only for text indexes of a source in local mode.
        places: how records and messages name the two stores; asked from the clients unless given.

    Raises:
        CopyError: a rate that is not positive, a target that is not a copy of this source, a swap under way, a store
            that fails for good, contents that differ after all.
        CollectionNotFound: there is no source.
    """
    if rate is not None and rate <= 0:
        raise CopyError("a rate must be positive", got=rate, expected="points per second, or None for no limit")
    source_side = CopySide(source, name, place=places[0], retries=retries)
    target_side = CopySide(target, target_name or name, place=places[1], retries=retries)
    prepared, watcher = begin(source_side, target_side, registry), progress or Unwatched()
    run = _Copy(source_side, target_side, prepared, batch=batch, rate=rate, passes=passes, progress=watcher)
    return run.run(verify=verify, overwrite=overwrite)


class _Copy:
    """One run: the two sides and the counts."""

    def __init__(
        self,
        source: CopySide,
        target: CopySide,
        prepared: Preparation,
        *,
        batch: int,
        rate: float | None,
        passes: int,
        progress: Progress,
    ) -> None:
        self._source, self._target, self._prepared = source, target, prepared
        self._batch, self._limit, self._progress = batch, passes, progress
        self._pace = Pace(rate=rate)
        self._rules = rules_of(prepared.info.config.params, keeps_datatype=not is_local(source.client))
        self._started = time.perf_counter()
        self._copied = self._changed = self._deleted = self._passes = 0

    def run(self, *, verify: bool, overwrite: bool) -> CopyReport:
        """Copy, compare, complete."""
        prepared, record = self._prepared, self._prepared.record
        target_collection.ensure_indexes(self._target, prepared.indexes)
        verified = verify or record.stage == "done"
        if record.stage == "done":
            self._update(record, overwrite=overwrite)
        else:
            record = self._points(record) if record.stage == "points" else record
            record = self._compared(record) if verify else self._counted(record)
            finish(self._source, self._target, record, self._prepared.unused)
        warnings = target_collection.warnings_of(self._source, prepared.info)
        warnings += filter(None, [optimized(self._target.client, self._target.name)])
        return CopyReport(
            source=str(self._source),
            target=str(self._target),
            points=self._target.count(),
            copied=self._copied,
            changed=self._changed,
            deleted=self._deleted,
            passes=self._passes,
            resumed=prepared.resumed,
            verified=verified,
            indexes=tuple(prepared.indexes),
            seconds=time.perf_counter() - self._started,
            warnings=tuple(warnings),
        )

    def _points(self, record: CopyRecord) -> CopyRecord:
        """Copy all points of the source once, continuing an earlier run."""
        self._progress.begin("copying", self._source.count())
        self._progress.advance("copying", record.copied)
        for records, next_offset in self._source.whole_pages(self._batch, record.offset):
            self._pace.wait(len(records))
            self._target.write([struct(point) for point in records])
            record = record.model_copy(update={"offset": next_offset, "copied": record.copied + len(records)})
            if next_offset is not None:
                self._target.note(record.payload())
            self._copied += len(records)
            self._progress.advance("copying", len(records))
        return self._stage(record, "passes")

    def _compared(self, record: CopyRecord) -> CopyRecord:
        """Compare and copy differences, until there are none.

        Raises:
            CopyError: there is no end of it.
        """
        result = Pass()
        for _ in range(self._limit):
            result = self._pass(write=True)
            self._changed, self._deleted = self._changed + result.differing, self._deleted + result.extra
            if result.clean and self._target.count() == self._source.count():
                return record.model_copy(update={"digest": str(result.digest)})
        raise CopyError(
            f"the source was written to during each of {self._limit} passes",
            where=self._source,
            got="; ".join(map(str, result.examples)) or "points were added or deleted",
            do="stop writing to it and run it again: it continues where it stopped",
            examples=tuple(result.examples),
        )

    def _counted(self, record: CopyRecord) -> CopyRecord:
        """Compare only the numbers of points.

        Raises:
            CopyError: they differ.
        """
        source_count, target_count = self._source.count(), self._target.count()
        if source_count != target_count:
            what = "source and target differ in the number of points"
            do = "run it again with verification, which copies what differs"
            raise CopyError(what, where=self._target, got=target_count, expected=source_count, do=do)
        return record.model_copy(update={"digest": None})

    def _update(self, record: CopyRecord, *, overwrite: bool) -> None:
        """Update a finished copy with the present differences, unless it was changed itself."""
        result, metadata = self._pass(write=False), self._source.metadata()
        if result.clean and hash_of(metadata) == record.metadata:
            if record.digest is None:
                self._target.note(record.model_copy(update={"digest": str(result.digest)}).payload())
            return
        if not overwrite:
            require_unchanged(self._target, record, result)
        record = self._compared(self._stage(record, "passes"))
        finish(self._source, self._target, record, self._prepared.unused)

    def _pass(self, *, write: bool) -> Pass:
        """Compare all points of the source, then those that only the target has; `write` copies what differs.

        Raises:
            CopyError: the target does not return what was written to it.
        """
        self._passes += 1
        stage, result = f"comparing, pass {self._passes}", Pass()
        self._progress.begin(stage, self._source.count())
        for records, _ in self._source.whole_pages(self._batch):
            self._page(records, result, write=write)
            self._progress.advance(stage, len(records))
            self._pace.wait(len(records))
        for ids in self._target.ids(self._batch):
            self._only_in_target(ids, result, write=write)
        return result

    def _page(self, records: list[models.Record], result: Pass, *, write: bool) -> None:
        target_records = self._target.points([plain_id(record.id) for record in records])
        differing = [(record, what) for record in records if (what := self._difference(record, target_records))]
        result.differing += len(differing)
        for record, what in differing:
            result.note(Difference(plain_id(record.id), what))
        if differing and write:
            target_records |= self._rewrite([record for record, _ in differing])
        for record in target_records.values():
            result.digest.add(record)

    def _rewrite(self, records: list[models.Record]) -> dict[PointId, models.Record]:
        """Write these points of the source; returns them as read back from the target."""
        self._target.write([struct(record) for record in records])
        target_records = self._target.points([plain_id(record.id) for record in records])
        wrong = [Difference(plain_id(r.id), what) for r in records if (what := self._difference(r, target_records))]
        if wrong:
            examples = wrong[:EXAMPLES]
            raise CopyError(
                f"the target does not return what was written to it: {len(wrong)} points",
                where=self._target,
                got="; ".join(map(str, examples)),
                expected="the source's payloads, and its vectors within the datatype",
                do="check whether another program writes to the target; diptych opens no unfinished copy",
                examples=tuple(examples),
            )
        return target_records

    def _only_in_target(self, ids: list[PointId], result: Pass, *, write: bool) -> None:
        source_points = self._source.points(ids, with_content=False) if ids else {}
        extra = [identifier for identifier in ids if identifier not in source_points]
        result.extra += len(extra)
        for identifier in extra:
            result.note(Difference(identifier, "not in the source"))
        if extra and write:
            self._target.delete(extra)
        elif extra:
            for record in self._target.points(extra).values():
                result.digest.add(record)

    def _difference(self, record: models.Record, target_records: Mapping[PointId, models.Record]) -> str:
        return difference(record, target_records.get(plain_id(record.id)), self._rules)

    def _stage(self, record: CopyRecord, stage: str) -> CopyRecord:
        record = record.model_copy(update={"stage": stage, "offset": None})
        self._target.note(record.payload())
        return record


# The end of a copy: the target becomes complete in one update.


def finish(source: CopySide, target: CopySide, record: CopyRecord, unused: Sequence[str] = ()) -> None:
    """Write the metadata that describes the vectors: from now on the copy can be opened.

    Raises:
        CopyError: a swap began in the source meanwhile; or the target does not keep the metadata.
    """
    info = source.info()
    require_coherent(source, info)
    target_collection.require_same(source, target, info, target.info(), unused)
    metadata = copied_metadata(info.config.metadata or {})
    update = {"stage": "done", "metadata": hash_of(metadata), "finished": timestamp()}
    removed = dict.fromkeys(copied_metadata(target.metadata()).keys() - metadata.keys())
    target.settle({**removed, **metadata, **record.model_copy(update=update).payload()})


def require_unchanged(target: CopySide, record: CopyRecord, result: Pass) -> None:
    """Raise CopyError when a finished copy was changed since: copying again would undo the change."""
    if record.digest is None:
        got = "it was copied without verification, so what was changed there since cannot be told"
    elif str(result.digest) != record.digest:
        got = "its points are not those that were copied"
    elif hash_of(target.metadata()) != record.metadata:
        got = "what it says about itself is not what was copied"
    else:
        return
    examples = "; ".join(map(str, result.examples))
    raise CopyError(
        "the target has changed since it was copied",
        where=target,
        got=f"{got}; it differs from the source: {examples or 'in its metadata'}",
        do="copy under another name: --as NAME; or overwrite them with the source's points: --overwrite",
        examples=tuple(result.examples),
    )


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is known before the first point is copied: the source, its payload indexes, and the target's progress."""

    record: CopyRecord
    info: models.CollectionInfo
    indexes: dict[str, Any]
    resumed: bool
    unused: Sequence[str]


def begin(source: CopySide, target: CopySide, registry: Registry | None) -> Preparation:
    """Create the target, or find it unfinished or finished.

    Raises:
        CollectionNotFound: there is no source.
        CopyError: the target is something else than a copy of this source; or the source is between two states.
    """
    if (source.place, source.name) == (target.place, target.name):
        what = "a collection cannot be copied onto itself"
        raise CopyError(what, where=source, do="name the copy: --as NAME, or another store")
    metadata = read_metadata(source.client, source.name)  # raises for a source that is not there or itself unfinished
    info = source.info()
    require_coherent(source, info)
    # The parts of the target that differ: without vectors that diptych made or adopted and no state needs.
    orphaned = orphans(source.client, source.name, metadata) if metadata else {}
    unused = [vector for vector, kind in orphaned.items() if kind != "text_index"]
    if unused:
        source.vectors = target.vectors = sorted(existing(source.client, source.name).difference(unused))
    indexes = target_collection.indexes_of(source, info, metadata, registry)
    if target.exists():
        return Preparation(_existing_record(source, target, info, unused), info, indexes, True, unused)
    record = CopyRecord(store=source.place, collection=source.name, began=timestamp(), by=who())
    target_collection.create(source, target, info, record.payload(), unused)
    return Preparation(record, info, indexes, False, unused)


def require_coherent(source: CopySide, info: models.CollectionInfo) -> None:
    """Raise CopyError while a swap is under way in the source: its new vectors are filled for that collection only."""
    raw = (info.config.metadata or {}).get(KEY)
    if not isinstance(raw, dict) or raw.get("swap") is None:
        return
    raise CopyError(
        "a swap of encoders is under way in the source",
        where=source,
        expected="no swap under way: a copy would hold half-filled vectors that nothing fills",
        do="finish it or undo it first: diptych apply, or diptych rollback; then run it again",
    )


def _existing_record(
    source: CopySide, target: CopySide, info: models.CollectionInfo, unused: Sequence[str]
) -> CopyRecord:
    target_info = target.info()
    record = record_of(target_info.config.metadata or {}, str(target))
    if record is None:
        kind = "a diptych collection" if KEY in (target_info.config.metadata or {}) else "a collection"
        raise CopyError(
            "the target exists and is not a copy",
            where=target,
            got=f"{kind} of {target.count()} points",
            do="copy under another name: --as NAME; or delete that collection with the Qdrant client",
        )
    if (record.store, record.collection) != (source.place, source.name):
        raise CopyError(
            "the target is a copy of another collection",
            where=target,
            got=record.source,
            expected=str(source),
            do="copy under another name: --as NAME; if it is the same source, call it what it was called then",
        )
    target_collection.require_same(source, target, info, target_info, unused)
    return record


@dataclass
class Pass:
    """What one pass found: points of the source that differ, and those that only the target has."""

    differing: int = 0
    extra: int = 0
    examples: list[Difference] = field(default_factory=list)
    digest: Digest = field(default_factory=Digest)

    @property
    def clean(self) -> bool:
        """Whether the two sides were the same."""
        return not self.differing and not self.extra

    def note(self, example: Difference) -> None:
        """Keep it as an example, if there is room."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)
