"""The anchors' texts: read from a file, or chosen among the documents of a collection."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.errors import AdapterOptionsError

FEWEST, MOST = 2, 8192  # anchors: one alone has no deviation from its mean; a vector holds a number for each
LONGEST = 1000  # characters of an anchor that is chosen
WORDS = 16  # of a document without a title that become an anchor


def read_anchors(path: str | Path, *, where: str) -> tuple[str, ...]:
    """The anchors of a text file, a line each; empty lines are skipped.

    Raises:
        AdapterOptionsError: the file cannot be read, or holds too few anchors, too many, or one twice.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        do = "write queries into it, one a line; or populate without the slot first, then: diptych anchors build"
        raise AdapterOptionsError("there is no file of anchors", where=where, got=str(path), do=do) from error
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterOptionsError("the anchors cannot be read", where=where, got=f"{path}: {error}") from error
    places: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text in places:
            got = f"{text[:60]!r} in lines {places[text]} and {number}"
            raise AdapterOptionsError("an anchor stands twice", where=f"{where}, {path}", got=got, do="leave one out")
        if text:
            places[text] = number
    if not FEWEST <= len(places) <= MOST:
        got, expected = f"{len(places):,} in {path}", f"{FEWEST} to {MOST:,}"
        raise AdapterOptionsError("the number of anchors is not usable", where=where, got=got, expected=expected)
    return tuple(places)


def choose_anchors(documents: Iterable[tuple[str, str]], count: int, *, seed: int) -> list[str]:
    """`count` anchors from titles and texts: titles, or the first words of documents that have none.

    The choice depends on the texts and the seed alone, not on the order of the documents: those with the lowest hashes.

    Args:
        documents: title and text of each; equal anchors count once.
        count: how many; fewer where there are fewer different ones.
        seed: another seed chooses others.
    """
    lowest: list[tuple[int, str]] = []  # a heap of the negative hashes: the highest comes out first
    known: set[str] = set()
    for title, text in documents:
        anchor = " ".join(title.split() or text.split()[:WORDS])[:LONGEST].strip()
        if not anchor or anchor in known:
            continue
        item = (-int.from_bytes(hashlib.blake2b(f"{seed} {anchor}".encode(), digest_size=8).digest()), anchor)
        if len(lowest) < count:
            heapq.heappush(lowest, item)
        elif item > lowest[0]:
            known.discard(heapq.heapreplace(lowest, item)[1])
        else:
            continue
        known.add(anchor)
    return sorted(anchor for _, anchor in lowest)


def write_anchors(path: Path, anchors: Sequence[str]) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text("".join(f"{anchor}\n" for anchor in anchors), "utf-8")
    os.replace(temporary, path)
