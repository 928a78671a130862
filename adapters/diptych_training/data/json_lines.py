"""JSON lines: the format in which data steps store their results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych.errors import DocumentError

Row = Mapping[str, Any]


def append_lines(path: Path, rows: Iterable[Row]) -> None:
    """Append rows, durable when this returns. A line that a kill has cut off is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        _remove_partial_line(file)
        file.write("".join(map(_line, rows)).encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows; none without a file. An incomplete last line, left by a kill, is skipped.

    Raises:
        DocumentError: a line that is not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n") and line.strip():
                yield _row(line, f"{path}, line {number}")


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DocumentError("a line is not a JSON object", where=where, got=repr(line[:80]), do="delete the file")
    return row


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _remove_partial_line(file: Any) -> None:
    size = file.seek(0, os.SEEK_END)
    end = size
    while end:
        step = min(end, 65536)
        file.seek(end - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            end = end - step + newline + 1
            break
        end -= step
    if end < size:
        file.truncate(end)
