"""`Rejects`: collects documents that cannot be indexed, each with its reason, in a file created for the first one.

`Rejected` is what a source yields for an entry that it cannot read.

The path is checked first. If nothing is rejected, an earlier run's report is deleted. With the default path a second
run of the process keeps the first report and writes `NAME-2.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from diptych.errors import DocumentError, MediaError, PopulateError, brief
from diptych.reports import SetAside
from diptych.stores.server_errors import error_line

EXAMPLES = 10  # kept in the report itself

_LONGEST_NAME = 150  # bytes of UTF-8; file systems take 255, and a number may be added


def report_file(collection: str) -> Path:
    """The default file for a collection's rejected documents; a long name is shortened and gets its hash."""
    name = collection.encode()
    if len(name) > _LONGEST_NAME:
        collection = f"{name[:_LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(name).hexdigest()[:8]}"
    return Path(f"diptych-set-aside-{collection}.jsonl")


class Rejects:
    """Counts rejected documents and writes a JSON line for each: id, position in the source, reason.

    Args:
        path: the file; None writes none.
        keep: whether to keep a file that another run of this process wrote.
    """

    _written: ClassVar[set[Path]] = set()  # by runs of this process
    _places: ClassVar[threading.Lock] = threading.Lock()  # simultaneous runs check, open and delete the same path

    def __init__(self, path: Path | None, *, keep: bool = False) -> None:
        self.path, self._keep = path, keep
        self.count = 0
        self.unidentified = 0
        self.first_unidentified = ""  # where it is, if that is known
        self.examples: list[SetAside] = []
        self._file: IO[str] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self.path is not None:
            with Rejects._places:
                _require_place(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            return self._file.close()
        with Rejects._places:
            if kind is None and self.path is not None and not self._taken(self.path) and _is_report(self.path):
                self.path.unlink(missing_ok=True)
        return None

    @property
    def report_file(self) -> str:
        """Path of the file, empty if nothing was rejected."""
        return str(self.path) if self.count and self.path is not None else ""

    def add(self, identifier: str, position: int, reason: str) -> None:
        """Record one rejected document."""
        entry = SetAside(identifier, position, reason)
        with self._lock:
            self.count += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(entry)
            if self._file is None and self.path is not None:
                self.path, self._file = self._opened(self.path)
            if self._file is not None:
                line = {"id": identifier, "position": position, "reason": reason}
                self._file.write(json.dumps(line) + "\n")

    def _opened(self, path: Path) -> tuple[Path, IO[str]]:
        """The file, under a name that no other run of this process has used, and that is no other file's."""
        stem, number = path.stem, 1
        with Rejects._places:
            while self._taken(path) or (_size(path) and not _is_report(path)):
                number += 1
                path = path.with_stem(f"{stem}-{number}")
            Rejects._written.add(path.resolve())
            return path, path.open("w", encoding="utf-8", buffering=1)

    def _taken(self, path: Path) -> bool:
        return self._keep and path.resolve() in Rejects._written and path.exists()


def _require_place(path: Path) -> None:
    """Raise PopulateError unless a report can be written to `path` without loss of anything but an older report."""
    try:
        size = _size(path)
    except (OSError, ValueError) as error:
        what, do = "this cannot be the path of a report", "name another file: --report FILE, report_path"
        raise PopulateError(what, got=brief(str(path)), do=do) from error
    if size and not _is_report(path):
        raise PopulateError(
            "the report would overwrite another file",
            where=str(path),
            expected="a new file, or the report of a run before",
            do="name another file: --report FILE, report_path",
        )
    existed = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise PopulateError(
            "the report of rejected documents cannot be written",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            do="name a file that can be written: --report FILE, report_path",
        ) from error
    if not existed and not _size(path):  # another process may have begun its report there
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes of the file, 0 where there is none.

    Raises:
        OSError, ValueError: no file can have this name: it is too long, holds a null character or is not Unicode.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _is_report(path: Path) -> bool:
    """Whether the file begins as our reports do."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            entry = json.loads(file.readline())
    except (ValueError, FileNotFoundError):  # another process was trying the place
        return False
    return isinstance(entry, dict) and tuple(entry) == ("id", "position", "reason")


def reason_of(error: BaseException) -> str:
    """The error in one line."""
    if not isinstance(error, DocumentError):
        return error_line(error)
    place = error.where if isinstance(error, MediaError) else ""  # the document's id does not name its files
    parts = ((" (", place), (" (got ", error.got), (" (expected ", error.expected))
    return error.what + "".join(f"{opening}{value})" for opening, value in parts if value)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An unreadable entry: where it is (`corpus.jsonl:17`), and why. Populate rejects it and continues.

    `id` is the document's id if it is known, as for a file in a folder; empty if not.
    """

    where: str
    reason: str
    id: str = ""
