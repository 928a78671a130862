"""`import_collection`: restores an exported collection without encoding, and rejects unreadable points."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.copying import target_collection
from diptych.copying.dump import Header, Shapes, header_of, rows_of
from diptych.copying.side import CopySide
from diptych.copying.target_collection import CopyRecord, copied_metadata, hash_of, record_of
from diptych.errors import CopyError, DocumentError, PopulateError
from diptych.handle.create import timestamp, who
from diptych.populate.read_ahead import batched
from diptych.populate.rejects import Rejected, Rejects, reason_of
from diptych.populate.sources import readers
from diptych.populate.validate import SeenIds
from diptych.reports import SetAside
from diptych.runtime.phases import Progress, Unwatched
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import optimized

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

BATCH = 256


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import: points read, written and rejected, with the file of reasons."""

    collection: str
    read: int
    written: int
    set_aside: int
    examples: tuple[SetAside, ...] = ()
    report_file: str = ""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every point of the file is in the collection."""
        return self.set_aside == 0


def read_header(path: Path) -> Header | None:
    """The header of an exported file; None if the file is not an export.

    Raises:
        CopyError: the header is damaged, or of a newer release.
        PopulateError: there is no such file, or it is Parquet and pyarrow is missing.
    """
    if not os.path.isfile(path):  # a pipe can be read only once
        raise PopulateError("there is no such file", got=path, expected="a regular file that diptych export wrote")
    if path.suffix.lower() == ".parquet":
        readers.require_pyarrow()
        line = header_of(path)
    else:
        line = readers.header_of(path)
    return None if line is None else Header.read(line, str(path))


@needs_answers("run it again once it does")
def import_collection(
    client: QdrantBase,
    path: str | Path,
    name: str | None = None,
    *,
    report_path: str | Path | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Restore a collection from a file with vectors, in a store that has no collection of this name.

    After a kill, run it again: it writes everything again. Until it is done, `Collection.open` refuses the collection.

    Args:
        client: the store.
        path: a file of `export_collection(..., vectors=True)`.
        name: of the collection, instead of the one that it had.
        report_path: where points are written that cannot be read; `diptych-set-aside-<name>.jsonl` unless given.
        progress: receives the progress of stage "import".

    Raises:
        CopyError: the file has no vectors, the collection exists, or the store fails for good.
    """
    path = Path(path)
    header = read_header(path)
    if header is None or not header.vectors:
        do = "populate it: diptych populate FILE; or export it again: diptych export FILE --vectors"
        raise CopyError("the file was not exported with vectors", where=path, do=do)
    target = CopySide(client, name or header.collection)
    own_report = Path(report_path or f"diptych-set-aside-{target.name}.jsonl")
    with Rejects(own_report, keep=report_path is None) as rejects, SeenIds() as seen:
        return _Import(target, path, header, rejects, seen, progress or Unwatched()).run()


class _Import:
    """One import and its counts."""

    def __init__(
        self, target: CopySide, path: Path, header: Header, rejects: Rejects, seen: SeenIds, progress: Progress
    ) -> None:
        self._target, self._path, self._header, self._rejects, self._seen = target, path, header, rejects, seen
        self._progress, self._started = progress, time.perf_counter()
        self._info = header.settings()
        self._shapes = Shapes(self._info.config.params)
        self._read = self._written = 0

    def run(self) -> ImportReport:
        """Create the collection, write the points, and store the metadata last."""
        record = self._copy_record()
        target_collection.ensure_indexes(self._target, self._header.schemas())
        self._progress.begin("import", self._header.points)
        for batch in batched(self._points(), BATCH):
            self._target.write(batch)
            self._written += len(batch)
            self._progress.advance("import", len(batch))
        metadata = copied_metadata(self._info.config.metadata or {})
        update = {"stage": "done", "metadata": hash_of(metadata), "finished": timestamp(), "copied": self._written}
        self._target.settle({**metadata, **record.model_copy(update=update).payload()})
        warnings = [*self._warnings(), *filter(None, [optimized(self._target.client, self._target.name)])]
        rejects = self._rejects
        return ImportReport(
            collection=self._target.name,
            read=self._read,
            written=self._written,
            set_aside=rejects.count,
            examples=tuple(rejects.examples),
            report_file=rejects.report_file,
            seconds=time.perf_counter() - self._started,
            warnings=tuple(warnings),
        )

    def _copy_record(self) -> CopyRecord:
        """The record of a new target, or of one that an earlier import of this file began."""
        record = CopyRecord(
            store=f"file:{self._path.resolve()}", collection=self._header.collection, began=timestamp(), by=who()
        )
        if not self._target.exists():
            target_collection.create(self._target, self._target, self._info, record.payload())
            return record
        existing = record_of(self._target.metadata(), str(self._target))
        if (
            existing is None
            or existing.stage == "done"
            or (existing.store, existing.collection) != (record.store, record.collection)
        ):
            raise CopyError(
                "the collection exists",
                where=self._target,
                got=f"{self._target.count():,} points",
                expected="a store without a collection of this name",
                do="import under another name: --collection NAME; or delete that collection with the Qdrant client",
            )
        return existing

    def _points(self) -> Iterator[models.PointStruct]:
        rows: Iterable[Mapping[str, Any] | Rejected] = readers.read_json_lines(self._path)
        for position, row in enumerate(rows_of(self._path) if self._path.suffix.lower() == ".parquet" else rows):
            self._read += 1
            try:
                if isinstance(row, Rejected):
                    raise DocumentError(row.reason)
                point = self._shapes.point(row)
                if not self._seen.claim_point(point.id, str(position)):  # type: ignore[arg-type]
                    raise DocumentError("another line has the same point", got=repr(point.id))
            except DocumentError as error:
                where = row.where if isinstance(row, Rejected | readers.Row) else f"row {position + 1}"
                self._rejects.add(where, position, reason_of(error))
                continue
            yield point

    def _warnings(self) -> Iterator[str]:
        if self._read != self._header.points:
            yield (
                f"the file has {self._read:,} points and says that they are {self._header.points:,}: "
                "it was cut off, or the collection changed while it was exported"
            )
