"""Where a text may be cut: headings, paragraphs, sentences; and code blocks, which stay whole where they fit.

Sentences end as in Unicode's text segmentation (UAX 29), simplified: at a sentence terminator of any script, closing
quotes included, unless a small letter follows. Scripts that write no spaces between sentences need none here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_WIDE = "。！？｡．"  # end a sentence without a space after them
_NARROW = ".!?…؟۔।॥።᙮᠃᠉။၊។៕᱾꓿"
_CLOSERS = "\"'”’»›)\\]}」』）】〉》"
_SENTENCE = re.compile(
    rf"[{_WIDE}]+[{_CLOSERS}]*\s*"  # Chinese and Japanese
    rf"|[{_NARROW}]+[{_CLOSERS}]*\s+(?![a-zß-öø-ÿа-яё])"  # a small letter goes on with the sentence, as after "e.g."
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_LINE = re.compile(r"\n[^\S\n]*(?=[-*+•]\s|\d{1,3}[.)]\s|\|)")  # list items and rows of a table
_HEADING = re.compile(r"^(#{1,6})[^\S\n]+(\S.*?)[^\S\n#]*$", re.MULTILINE)
_FENCE = re.compile(r"^[^\S\n]{0,3}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)


class Level(IntEnum):
    """How good a place for a cut is, worst first."""

    SENTENCE = 1
    PARAGRAPH = 2
    HEADING = 3


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in Markdown: its depth from 1 to 6, its text, and where its line begins."""

    at: int
    depth: int
    text: str


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
        headings = tuple(
            Heading(match.start(), len(match[1]), match[2])
            for match in _HEADING.finditer(text)
            if not _inside(match.start(), blocks)
        )
        cuts: dict[int, Level] = {}
        for pattern, level in ((_SENTENCE, Level.SENTENCE), (_LINE, Level.SENTENCE), (_PARAGRAPH, Level.PARAGRAPH)):
            cuts.update((match.end(), level) for match in pattern.finditer(text))
        cuts.update((place, Level.PARAGRAPH) for block in blocks for place in block)
        cuts.update((heading.at, Level.HEADING) for heading in headings)
        return cls(cuts, blocks, headings)

    def path(self, place: int) -> tuple[str, ...]:
        """The headings above `place`, the outermost first."""
        path: list[Heading] = []
        for heading in self.headings:
            if heading.at >= place:
                break
            path = [above for above in path if above.depth < heading.depth] + [heading]
        return tuple(heading.text for heading in path)


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


def _inside(place: int, blocks: tuple[tuple[int, int], ...]) -> bool:
    return any(begin <= place < end for begin, end in blocks)
