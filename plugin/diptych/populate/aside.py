"""`Aside`: the documents that cannot be indexed, each with its reason, in a file made when the first one comes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from diptych.errors import DocumentError
from diptych.reports import SetAside

EXAMPLES = 10  # kept in the report itself


class Aside:
    """Counts what is set aside and writes it down, a JSON line each: id, position in the source, reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.unidentified = 0
        self.examples: list[SetAside] = []
        self._file: IO[str] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def report_file(self) -> str:
        """Path of the file, empty when nothing was set aside."""
        return str(self.path) if self.count else ""

    def add(self, identifier: str, position: int, reason: str) -> None:
        """Set one document aside."""
        entry = SetAside(identifier, position, reason)
        with self._lock:
            self.count += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(entry)
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("w", encoding="utf-8", buffering=1)
            line = {"id": identifier, "position": position, "reason": reason}
            self._file.write(json.dumps(line) + "\n")


def reason_of(error: BaseException) -> str:
    """The error in one line."""
    if not isinstance(error, DocumentError):
        first = str(error).strip().splitlines()[:1]
        return f"{type(error).__name__}: {first[0] if first else 'no message'}"
    parts = ((" (got ", error.got), (" (expected ", error.expected))
    return error.what + "".join(f"{opening}{value})" for opening, value in parts if value)
