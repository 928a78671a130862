"""Reads what may come from somebody else: what a text may cost, and files that are no links, pipes or devices.

Every reader keeps the limits here. `stream_safe` precedes every normalisation. `is_local_folder` recognises the folders
of qdrant-client's local mode.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from functools import cache
from pathlib import Path

FILE = 256 * 2**20  # bytes of a file that is one document, and of all parts of an archive unpacked
RECORD = 16 * 2**20  # bytes of a line or a row, sixteen times the longest document as populate.max_characters has it
LINE = 1_000_000  # characters of a line of queries, judgements or runs
TEXT = 20_000_000  # characters of a file; populate rejects what is longer than populate.max_characters
HIGHLIGHTED = 100_000  # characters of a document without passages in which words are looked for
MEMORY = 2 * 2**30  # bytes of the process that reads PDF, HTML and DOCX
PATIENCE = 4  # how many times its processor time that process may take
_JOINER = "\u034f"  # combining grapheme joiner, which Unicode provides for this; it ends a run of marks
_FIRST, _BEYOND = 0x300, 0x1F000  # code points between which all combining marks are


def seconds(size: int) -> float:
    """The processor time that reading a PDF, HTML or DOCX file of `size` bytes may take."""
    return min(300.0, 20 + size / 250_000)


def stream_safe(text: str) -> str:
    """The text with at most 30 combining marks in a row, as in Unicode's stream-safe format (UAX 15).

    `unicodedata.normalize` takes time that grows with the square of such a run, and no other thread runs meanwhile. No
    language writes runs of this length. Every 31st mark becomes a joiner, so all other characters keep their places.
    """
    if text.isascii():
        return text
    suspicious, too_long = _runs_of_marks()
    return too_long.sub(rf"\1{_JOINER}", text) if suspicious.search(text) else text


@cache
def _runs_of_marks() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Runs that may be too long, found ten times faster, and those that are.

    Marks are also characters that only decompose into marks, such as U+FF9E.
    """
    characters = map(chr, range(_FIRST, _BEYOND))
    marks = [c for c in characters if unicodedata.combining(unicodedata.normalize("NFKD", c)[0])]
    common, every = "".join(c for c in marks if c < "\U00010000"), "".join(marks)
    return re.compile(f"[{common}\U00010000-\U0001f000]{{31}}"), re.compile(f"([{every}]{{30}})[{every}]")


LOCAL_MODE = "meta.json"  # what qdrant-client's local mode writes, and a server too
SERVER = "raft_state.json"  # what only a server writes


def plain_file(path: str, flags: int) -> int:
    """`regular_file` that is no link either.

    Raises:
        OSError: it is a link, a pipe or a device, or the system refuses.
    """
    return regular_file(path, flags | getattr(os, "O_NOFOLLOW", 0))


def regular_file(path: str, flags: int) -> int:
    """The `opener` of `open(...)` for a regular file, or a link to one; a new file is its user's alone.

    Raises:
        OSError: it is a pipe or a device, which could be waited for and read without an end, or the system refuses.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def is_local_folder(path: Path) -> bool:
    """Whether qdrant-client's local mode created the folder."""
    return (path / LOCAL_MODE).is_file() and not (path / SERVER).exists()
