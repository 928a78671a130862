"""`copy_collection`: the whole path from one collection to another."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.copying.sides import (
    CopyRecord,
    CopyReport,
    CopySide,
    Digest,
    copied_metadata,
    create,
    difference,
    ensure_indexes,
    hash_of,
    indexes_of,
    record_of,
    require_same,
    rules_of,
    struct,
    warnings_of,
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
    overwrite: bool = False,
    retries: int = 5,
    progress: Progress | None = None,
    registry: Registry | None = None,
) -> CopyReport:
    """Copy a collection: points with vectors and payloads, settings, payload indexes and metadata.

    Then both sides are read again and compared, and what was written to the source meanwhile is copied, until nothing
    differs. Run it again to continue after any interruption; at most one batch is copied twice. Run again when it is
    done, it copies only differences. Until it is done `Collection.open` refuses the target.

    Args:
        source, name: the collection to copy; it is only read.
        target, target_name: where to; `name` unless given. Both clients may be the same.
        batch: points that are read and written at once; memory holds no more, on each side.
        rate: points a second, at most.
        overwrite: take the source's points even where the target was changed since it was copied.
        retries: further tries after a failure of a store that may pass.
        progress: receives the progress of the stages.
        registry: where adapters come from; asked only for text indexes of a source in local mode.

    Raises:
        CopyError: a rate that is not positive, a target that is not a copy of this source, a swap under way, a store
            that fails for good, contents that differ after all.
        CollectionNotFound: there is no source.
    """
    if rate is not None and rate <= 0:
        raise CopyError("a rate must be positive", got=rate, expected="points per second, or None for no limit")
    sides = CopySide(source, name, retries=retries), CopySide(target, target_name or name, retries=retries)
    return _Copy(*sides, batch, Pace(rate=rate), progress or Unwatched()).run(registry, overwrite=overwrite)


class _Copy:
    """One run: the two sides and the counts."""

    def __init__(self, source: CopySide, target: CopySide, batch: int, pace: Pace, progress: Progress) -> None:
        self._source, self._target = source, target
        self._batch, self._pace, self._progress = batch, pace, progress
        self._started = time.perf_counter()
        self._copied = self._changed = self._deleted = self._passes = 0
        self._unused: list[str] = []  # vectors that no state of the source needs, which the target does not get

    def run(self, registry: Registry | None, *, overwrite: bool) -> CopyReport:
        """Copy, compare, complete."""
        if (self._source.place, self._source.name) == (self._target.place, self._target.name):
            what = "a collection cannot be copied onto itself"
            raise CopyError(what, where=self._source, do="name the copy: --as NAME, or another store")
        # Raises for a source that is not there or itself unfinished.
        metadata = read_metadata(self._source.client, self._source.name)
        info = self._source.info()
        require_coherent(self._source, info)
        indexes = indexes_of(self._source, info, metadata, registry)
        orphaned = orphans(self._source.client, self._source.name, metadata) if metadata else {}
        self._unused = [vector for vector, kind in orphaned.items() if kind != "text_index"]
        if self._unused:
            kept = sorted(existing(self._source.client, self._source.name).difference(self._unused))
            self._source.vectors = self._target.vectors = kept
        self._rules = rules_of(info.config.params, keeps_datatype=not is_local(self._source.client))
        resumed = self._target.exists()
        record = CopyRecord(store=self._source.place, collection=self._source.name, began=timestamp(), by=who())
        if resumed:
            record = self._existing_record(info)
        else:
            create(self._source, self._target, info, record.payload(), self._unused)
        ensure_indexes(self._target, indexes)
        if record.stage == "done":
            self._update(record, overwrite=overwrite)
        else:
            self._finish(self._compared(self._points(record) if record.stage == "points" else record))
        warnings = warnings_of(self._source, info)
        warnings += filter(None, [optimized(self._target.client, self._target.name)])
        return CopyReport(
            source=str(self._source),
            target=str(self._target),
            points=self._target.count(),
            copied=self._copied,
            changed=self._changed,
            deleted=self._deleted,
            passes=self._passes,
            resumed=resumed,
            indexes=tuple(indexes),
            seconds=time.perf_counter() - self._started,
            warnings=tuple(warnings),
        )

    def _existing_record(self, info: models.CollectionInfo) -> CopyRecord:
        source, target, target_info = self._source, self._target, self._target.info()
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
        require_same(source, target, info, target_info, self._unused)
        return record

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
        for _ in range(PASSES):
            deleted, result = self._deleted, self._pass(write=True)
            self._changed += result.differing - (self._deleted - deleted)
            if not result.differing and self._target.count() == self._source.count():
                return record.model_copy(update={"digest": str(result.digest)})
        raise CopyError(
            f"the source was written to during each of {PASSES} passes",
            where=self._source,
            got="; ".join(result.examples) or "points were added or deleted",
            do="stop writing to it and run it again: it continues where it stopped",
            examples=tuple(result.examples),
        )

    def _update(self, record: CopyRecord, *, overwrite: bool) -> None:
        """Update a finished copy with the present differences, unless it was changed itself."""
        result, metadata = self._pass(write=False), self._source.metadata()
        if not result.differing and hash_of(metadata) == record.metadata:
            return
        if not overwrite:  # copying again would undo a change
            got = "what it says about itself is not what was copied"
            if str(result.digest) != record.digest:
                got = "its points are not those that were copied"
            if str(result.digest) != record.digest or hash_of(self._target.metadata()) != record.metadata:
                examples = "; ".join(result.examples)
                raise CopyError(
                    "the target has changed since it was copied",
                    where=self._target,
                    got=f"{got}; it differs from the source: {examples or 'in its metadata'}",
                    do="copy under another name: --as NAME; or overwrite them with the source's points: --overwrite",
                    examples=tuple(result.examples),
                )
        self._finish(self._compared(self._stage(record, "passes")))

    def _finish(self, record: CopyRecord) -> None:
        """Write the metadata that describes the vectors, in one update: from now on the copy can be opened.

        Raises:
            CopyError: a swap began in the source meanwhile; or the target does not keep the metadata.
        """
        info = self._source.info()
        require_coherent(self._source, info)
        require_same(self._source, self._target, info, self._target.info(), self._unused)
        metadata = copied_metadata(info.config.metadata or {})
        update = {"stage": "done", "metadata": hash_of(metadata), "finished": timestamp()}
        removed = dict.fromkeys(copied_metadata(self._target.metadata()).keys() - metadata.keys())
        self._target.settle({**removed, **metadata, **record.model_copy(update=update).payload()})

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
            source_points = self._source.points(ids, with_content=False) if ids else {}
            extra = [identifier for identifier in ids if identifier not in source_points]
            result.note([f"point {identifier}: not in the source" for identifier in extra])
            if extra and write:
                self._target.delete(extra)
                self._deleted += len(extra)
            elif extra:
                for record in self._target.points(extra).values():
                    result.digest.add(record)
        return result

    def _page(self, records: list[models.Record], result: Pass, *, write: bool) -> None:
        target_records, differing = self._differing(records)
        result.note(differing.values())
        if differing and write:
            rewritten = [record for record in records if plain_id(record.id) in differing]
            self._target.write([struct(record) for record in rewritten])
            read_back, wrong = self._differing(rewritten)
            if wrong:
                examples = [*wrong.values()][:EXAMPLES]
                raise CopyError(
                    f"the target does not return what was written to it: {len(wrong)} points",
                    where=self._target,
                    got="; ".join(examples),
                    expected="the source's payloads, and its vectors within the datatype",
                    do="check whether another program writes to the target; diptych opens no unfinished copy",
                    examples=tuple(examples),
                )
            target_records |= read_back
        for record in target_records.values():
            result.digest.add(record)

    def _differing(self, records: list[models.Record]) -> tuple[dict[PointId, models.Record], dict[PointId, str]]:
        """The target's points of these ids, and in words how those that differ from the source's do."""
        targets = self._target.points([plain_id(record.id) for record in records])
        found = {plain_id(r.id): difference(r, targets.get(plain_id(r.id)), self._rules) for r in records}
        return targets, {point: f"point {point}: {what}" for point, what in found.items() if what}

    def _stage(self, record: CopyRecord, stage: str) -> CopyRecord:
        record = record.model_copy(update={"stage": stage, "offset": None})
        self._target.note(record.payload())
        return record


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


@dataclass
class Pass:
    """What one pass found: the number of points that differ, some of them in words, and a digest of the target's."""

    differing: int = 0
    examples: list[str] = field(default_factory=list)
    digest: Digest = field(default_factory=Digest)

    def note(self, differences: Collection[str]) -> None:
        """Count these, and keep the first few as examples."""
        self.differing += len(differences)
        self.examples += [*differences][: EXAMPLES - len(self.examples)]
