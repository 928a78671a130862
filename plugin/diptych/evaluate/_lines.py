"""Reads text files line by line, gzipped or not, so that every error can name its line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from diptych.errors import EvaluationError
from diptych.runtime.plain_files import regular_file
from diptych.runtime.text_budget import LINE

_LIMIT = f"at most {LINE:,} characters"
_GZIP_MAGIC = b"\x1f\x8b"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """`(line number from 1, line without its end)` of each line that is not blank. UTF-8, with or without a mark.

    Raises:
        EvaluationError: the file cannot be opened, is no UTF-8, its gzip stream is damaged, or a line is too long.
    """
    number = 0
    try:
        with open(path, "rb", opener=regular_file) as probe:
            zipped = probe.read(2) == _GZIP_MAGIC
        with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline=None) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LINE + 1), ""), 1):
                if len(line) > LINE:
                    raise EvaluationError("a line is too long", where=place(path, number), expected=_LIMIT)
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
    ) as error:  # ValueError: no UTF-8, or no path
        raise EvaluationError(
            f"cannot read {path.name}",
            where=f"{path}, after line {number}" if number else path,
            got=f"{type(error).__name__}: {error}",
            expected="UTF-8 text, gzipped or not",
        ) from error


def place(path: Path, number: int) -> str:
    """How errors name a line."""
    return f"{path}, line {number}"
