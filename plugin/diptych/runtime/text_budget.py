"""What a text may cost: the limits that every reader keeps, and `stream_safe`, which precedes every normalisation."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

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
