"""`Split`: cuts a text at the best places into passages of at most a given number of tokens.

Those are headings, paragraphs and sentences; code blocks stay whole where they fit. Sentences end as in Unicode's text
segmentation (UAX 29), simplified: at a sentence terminator of any script, closing quotes included, unless a small
letter follows. Scripts that write no spaces between sentences need none here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter, itemgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_WIDE = "。！？｡．"  # end a sentence without a space after them
_NARROW = ".!?…؟۔।॥።᙮᠃᠉။၊។៕᱾꓿"
_CLOSERS = "\"'”’»›)\\]}」』）】〉》"
_SENTENCE = re.compile(
    rf"[{_WIDE}]+[{_CLOSERS}]*\s*"  # Chinese and Japanese
    rf"|(?<![{_NARROW}])[{_NARROW}]++[{_CLOSERS}]*+"
    r"\s+(?![a-zß-öø-ÿа-яё])"  # a small letter goes on with the sentence, as after "e.g."
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_LINE = re.compile(r"\n[^\S\n]*(?=[-*+•]\s|\d{1,3}[.)]\s|\|)")  # list items and rows of a table
_HEADING = re.compile(r"^(#{1,6})[^\S\n]++(\S.*)", re.MULTILINE)
_FENCE = re.compile(r"^[^\S\n]{0,3}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)


class Level(IntEnum):
    """How good a place for a cut is, worst first."""

    SENTENCE = 1
    PARAGRAPH = 2
    HEADING = 3


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in Markdown: its depth from 1 to 6, the headings down to it, and where its line begins."""

    at: int
    depth: int
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boundaries:
    """The places of a text, in characters.

    Args:
        cuts: where a passage may begin, with how good a place it is.
        blocks: begin and end of code blocks between fences.
        headings: in the order of the text; those inside code blocks are none.
    """

    cuts: dict[int, Level]
    blocks: tuple[tuple[int, int], ...]
    headings: tuple[Heading, ...]

    @classmethod
    def of(cls, text: str) -> Boundaries:
        """The boundaries of `text`."""
        blocks = tuple(_blocks(text))
        headings = tuple(_headings(text, blocks))
        cuts: dict[int, Level] = {}
        for pattern, level in ((_SENTENCE, Level.SENTENCE), (_LINE, Level.SENTENCE), (_PARAGRAPH, Level.PARAGRAPH)):
            cuts.update((match.end(), level) for match in pattern.finditer(text))
        cuts.update((place, Level.PARAGRAPH) for block in blocks for place in block)
        cuts.update((heading.at, Level.HEADING) for heading in headings)
        return cls(cuts, blocks, headings)

    def path(self, place: int) -> tuple[str, ...]:
        """The headings above `place`, the outermost first."""
        above = bisect_left(self.headings, place, key=attrgetter("at"))
        return self.headings[above - 1].path if above else ()


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Code blocks between fences; one that is never closed goes on to the end."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]):
            yield opened.start(), fence.end()
            opened = None
    if opened is not None:
        yield opened.start(), len(text)


def _headings(text: str, blocks: Sequence[tuple[int, int]]) -> Iterator[Heading]:
    """The headings outside of code blocks, each below those before it that are less deep."""
    above: list[Heading] = []
    for match in _HEADING.finditer(text):
        if block_around(match.start(), blocks) is None:
            depth = len(match[1])
            above = [heading for heading in above if heading.depth < depth]
            path = above[-1].path if above else ()
            above.append(Heading(match.start(), depth, (*path, match[2].rstrip())))
            yield above[-1]


def block_around(place: int, blocks: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The block that a cut at `place` would divide; blocks are in order and apart."""
    before = bisect_left(blocks, place, key=itemgetter(0))
    return blocks[before - 1] if before and place < blocks[before - 1][1] else None


Spans: TypeAlias = NDArray[np.int32]  # [tokens, 2]: begin and end in characters


@dataclass(frozen=True, slots=True)
class Split:
    """A text with its tokens, ready to be cut.

    A passage ends at the best place in the second half of what fits: before a heading, else at the end of a paragraph,
    else of a sentence, else between words. The next one begins at most `overlap` tokens earlier, at the beginning of a
    sentence if there is one; before a heading nothing overlaps. A code block is not cut if it fits into a passage.

    Args:
        length: of the text, in characters.
        spans: its tokens, int32 `[tokens, 2]`.
        boundaries: of the text.
    """

    length: int
    spans: Spans
    boundaries: Boundaries

    def passages(self, room: Callable[[int], int], overlap: int) -> Iterator[tuple[int, int]]:
        """Begin and end of each passage in characters, in order; none if the text has no tokens.

        White space at the end is included, as is punctuation that is no token.

        Args:
            room: the most tokens of a passage that begins at a place, without its context.
            overlap: the most tokens that a passage shares with the one before it.
        """
        places, levels, blocks = self._cuts()
        begin, count = 0, len(self.spans)
        while begin < count:
            most = max(1, room(int(self.spans[begin, 0])))
            end, level = self._end(begin, most, places, levels, blocks)
            yield int(self.spans[begin, 0]) if begin else 0, int(self.spans[end, 0]) if end < count else self.length
            begin = end if end == count or level is Level.HEADING else self._next(begin, end, overlap, places, blocks)

    def _cuts(self) -> tuple[list[int], dict[int, Level], list[tuple[int, int]]]:
        """The boundaries in tokens: the places in order, how good each is, and the code blocks."""
        starts = self.spans[:, 0]
        levels: dict[int, Level] = {}
        for at, level in zip(
            np.searchsorted(starts, [*self.boundaries.cuts]), self.boundaries.cuts.values(), strict=True
        ):
            levels[int(at)] = max(level, levels.get(int(at), level))
        ends = np.searchsorted(starts, [place for block in self.boundaries.blocks for place in block]).tolist()
        return sorted(levels), levels, [*zip(ends[::2], ends[1::2], strict=True)]

    def _end(
        self, begin: int, most: int, places: list[int], levels: dict[int, Level], blocks: list[tuple[int, int]]
    ) -> tuple[int, Level | None]:
        """The token before which the passage ends, and how good a place that is."""
        stop = begin + most
        if stop >= len(self.spans):
            return len(self.spans), None
        for least in (begin + max(1, most // 2), begin + max(1, most // 4)):
            found = [
                (levels[at], at)
                for at in places[bisect_left(places, least) : bisect_left(places, stop + 1)]
                if _uncut(at, most, blocks)
            ]
            if found:
                level, at = max(found)
                return at, level
        block = block_around(stop, blocks)
        if block is not None and begin < block[0] and block[1] - block[0] <= most:
            return block[0], Level.PARAGRAPH
        return self._between_words(stop, begin + 1), None

    def _next(self, begin: int, end: int, overlap: int, places: list[int], blocks: list[tuple[int, int]]) -> int:
        """The token at which the next passage begins."""
        least = max(end - overlap, begin + 1)
        at = next(iter(places[bisect_left(places, least) : bisect_left(places, end)]), None)
        if at is None:
            at = self._between_words(least, begin + 1)
        return at if block_around(at, blocks) is None else end

    def _between_words(self, at: int, least: int) -> int:
        """The last token up to `at` that begins after a gap; `at` where the text has none nearby, as in Chinese."""
        for token in range(at, max(least, at - 16), -1):
            if self.spans[token, 0] > self.spans[token - 1, 1]:
                return token
        return at


def _uncut(at: int, most: int, blocks: list[tuple[int, int]]) -> bool:
    """Whether a cut there leaves whole each code block that fits into a passage."""
    block = block_around(at, blocks)
    return block is None or block[1] - block[0] > most
