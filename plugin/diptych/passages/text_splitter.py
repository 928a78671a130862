"""`Split`: cuts a text at the best places into passages of at most a given number of tokens.

Those are headings, paragraphs and sentences; code blocks stay whole where they fit. Sentences end as in Unicode's text
segmentation (UAX 29), simplified: at a sentence terminator of any script, closing quotes included, unless a small
letter follows. Scripts that write no spaces between sentences need none here.

`Splitter` cuts documents into passages by `PassageOptions` or by a plugin, and puts context before them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from diptych.errors import HookError, brief

MARK = "\x1e"  # ASCII's record separator: stands between title and text in the input of an encoder with passages
Places: TypeAlias = tuple[tuple[int, int], ...]  # begin and end of each passage in the text, in characters
_SEGMENT = 100_000  # characters that are cut into tokens at once, so that long documents take bounded memory
_TOGETHER = 10 * _SEGMENT  # characters that are cut in one call
_PIECES = re.compile(r"[^\W_]{1,4}|[^\w\s]|_")  # about the tokens of an encoder that does not tell its own
OPTION = "passages"  # the key beside an adapter's own options

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
TellSpans: TypeAlias = Callable[[Sequence[str]], list[Spans]]


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

    def __init__(self, length: int, spans: Spans, boundaries: Boundaries) -> None:
        self._length, self._spans, starts = length, spans, spans[:, 0]
        self._levels: dict[int, Level] = {}  # how good a cut before a token is
        at = np.searchsorted(starts, [*boundaries.cuts]).tolist()
        for token, level in zip(at, boundaries.cuts.values(), strict=True):
            self._levels[token] = max(level, self._levels.get(token, level))
        ends = np.searchsorted(starts, [place for block in boundaries.blocks for place in block]).tolist()
        self._places, self._blocks = sorted(self._levels), [*zip(ends[::2], ends[1::2], strict=True)]

    def passages(self, room: Callable[[int], int], overlap: int) -> Iterator[tuple[int, int]]:
        """Begin and end of each passage in characters, in order; none if the text has no tokens.

        White space at the end is included, as is punctuation that is no token.

        Args:
            room: the most tokens of a passage that begins at a place, without its context.
            overlap: the most tokens that a passage shares with the one before it.
        """
        begin, count, places = 0, len(self._spans), self._places
        while begin < count:
            end, level = self._end(begin, max(1, room(int(self._spans[begin, 0]))))
            yield int(self._spans[begin, 0]) if begin else 0, int(self._spans[end, 0]) if end < count else self._length
            first = begin + 1
            begin = end
            if end < count and level is not Level.HEADING:  # else nothing overlaps
                least = max(end - overlap, first)
                at = next(iter(places[bisect_left(places, least) : bisect_left(places, end)]), None)
                at = self._between_words(least, first) if at is None else at
                begin = at if block_around(at, self._blocks) is None else end

    def _end(self, begin: int, most: int) -> tuple[int, Level | None]:
        """The token before which the passage ends, and how good a place that is."""
        stop, places = begin + most, self._places
        if stop >= len(self._spans):
            return len(self._spans), None
        for least in (begin + max(1, most // 2), begin + max(1, most // 4)):
            found = [
                (self._levels[at], at)
                for at in places[bisect_left(places, least) : bisect_left(places, stop + 1)]
                # It leaves whole each code block that fits into a passage.
                if (around := block_around(at, self._blocks)) is None or around[1] - around[0] > most
            ]
            if found:
                level, at = max(found)
                return at, level
        block = block_around(stop, self._blocks)
        if block is not None and begin < block[0] and block[1] - block[0] <= most:
            return block[0], Level.PARAGRAPH
        return self._between_words(stop, begin + 1), None

    def _between_words(self, at: int, least: int) -> int:
        """The last token up to `at` that begins after a gap; `at` where the text has none nearby, as in Chinese."""
        for token in range(at, max(least, at - 16), -1):
            if self._spans[token, 0] > self._spans[token - 1, 1]:
                return token
        return at


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """A document to cut.

    Args:
        title, text: of the document.
        spans: the tokens of the text, int32 `[tokens, 2]`: begin and end in characters.
        tokens: the most tokens of a passage, its context included.
        overlap: the most tokens that a passage shares with the one before it.
    """

    title: str
    text: str
    spans: Spans
    tokens: int
    overlap: int


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """A document that has been cut, for a plugin that writes what stands before its passages.

    Args:
        title, text: of the document.
        places: begin and end of each passage in the text, in characters.
    """

    title: str
    text: str
    places: Places


@dataclass(frozen=True, slots=True)
class PassageHooks:
    """What plugins do to passages; None where no plugin does it. `names` identifies the plugins in fingerprints."""

    split: Callable[..., Sequence[tuple[int, int]] | None] | None = None
    context: Callable[..., Sequence[str] | None] | None = None
    names: str = ""


@dataclass(frozen=True, slots=True)
class SplitDocument:
    """A document with its passages: `title` as it stands before them, and `spans`, the tokens of `text`."""

    title: str
    title_tokens: int
    text: str
    spans: Spans
    boundaries: Boundaries
    places: Places


class Splitter:
    """Cuts documents by the tokens of an encoder.

    Args:
        options: how documents are cut.
        token_spans: tells the tokens of texts; None takes four letters for one.
        hooks: what plugins do instead.
    """

    def __init__(self, options: PassageOptions, token_spans: TellSpans | None, hooks: PassageHooks) -> None:
        self.options, self._hooks = options, hooks
        self._tell = token_spans or _approximate
        self._most_title = options.tokens // 4 if "title" in options.context else 0

    def split(self, inputs: Sequence[str]) -> list[SplitDocument]:
        """The passages of each input, which is title and text with `MARK` between them, or all text without it."""
        pairs = [
            (title.strip(), text) if mark else ("", title)
            for title, mark, text in (entry.partition(MARK) for entry in inputs)
        ]
        spans = self.token_spans([part for pair in pairs for part in pair])
        return [self._document(*pair, spans[2 * n], spans[2 * n + 1]) for n, pair in enumerate(pairs)]

    def read(self, document: SplitDocument) -> list[str]:
        """What is encoded of each passage: its context and its text."""
        texts = [document.text[begin:end] for begin, end in document.places]
        above = [self._headings(document.boundaries, begin) for begin, _ in document.places] if len(texts) > 1 else [""]
        written: Sequence[str] | None = None
        if self._hooks.context is not None:
            request = ContextRequest(document.title, document.text, document.places)
            written = self._hooks.context(request=request)
        if written is None:
            written = [""] * len(texts)
        elif len(written) != len(texts) or not all(isinstance(text, str) for text in written):
            what = "diptych_passage_context did not return one text per passage"
            raise HookError(what, got=brief(written), expected=f"{len(texts)} texts")
        return [" ".join(filter(None, (document.title, *parts))) for parts in zip(above, written, texts, strict=True)]

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """The tokens of each text; long texts are cut into tokens piece by piece."""
        pieces = [[*_segments(text)] for text in texts]
        flat = (text[begin:end] for text, piece in zip(texts, pieces, strict=True) for begin, end in piece)
        spans = chain.from_iterable(map(self._tell, _together(flat)))
        empty = np.zeros((0, 2), np.int32)
        return [np.concatenate([empty, *(next(spans) + begin for begin, _ in piece)]) for piece in pieces]

    def _document(self, title: str, text: str, title_spans: Spans, spans: Spans) -> SplitDocument:
        boundaries = Boundaries.of(text)
        titled = min(len(title_spans), self._most_title)
        shown = title[: int(title_spans[titled - 1, 1])] if titled else ""

        def room(place: int) -> int:
            above = len(self._headings(boundaries, place)) // 4  # tokens, roughly; a few too many are cut off
            return self.options.tokens - titled - above

        places = self._by_plugin(title, text, spans)
        if places is None:
            places = [*Split(len(text), spans, boundaries).passages(room, self.options.shared)] or [(0, len(text))]
        stripped = tuple((begin, begin + len(text[begin:end].rstrip())) for begin, end in places)
        return SplitDocument(shown, titled, text, spans, boundaries, stripped)

    def _headings(self, boundaries: Boundaries, place: int) -> str:
        """The headings above a place, in at most a quarter of a passage."""
        path, most = boundaries.path(place) if "headings" in self.options.context else (), self.options.tokens
        return " > ".join(heading[:most] for heading in path)[:most]

    def _by_plugin(self, title: str, text: str, spans: Spans) -> Sequence[tuple[int, int]] | None:
        if self._hooks.split is None:
            return None
        request = SplitRequest(title, text, spans, self.options.tokens, self.options.shared)
        places = self._hooks.split(request=request)
        try:
            begins = [begin for begin, _ in places or ()]
            fits = bool(begins) and begins == sorted(begins)
            fits = fits and all(0 <= begin < end <= len(text) for begin, end in places or ())
        except (TypeError, ValueError):
            fits = False
        if places is not None and not fits:
            what, expected = "diptych_split_document returned unusable places", f"(begin, end) pairs within {len(text)}"
            raise HookError(
                what, got=brief(places), expected=f"{expected} characters, by their beginning, one at least"
            )
        return places


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of a text, cut at the ends of lines or words where there are some."""
    begin = 0
    while begin < len(text):
        end = min(begin + _SEGMENT, len(text))
        if end < len(text):
            end = max(text.rfind("\n", begin, end), text.rfind(" ", end - 1000, end), begin + _SEGMENT // 2)
        yield begin, end
        begin = end


def _together(pieces: Iterable[str]) -> Iterator[list[str]]:
    """The pieces in lists; what a tokenizer says of one list takes up to fifty times its memory."""
    several: list[str] = []
    size = 0
    for piece in pieces:
        if several and size + len(piece) > _TOGETHER:
            yield several
            several, size = [], 0
        several.append(piece)
        size += len(piece)
    if several:
        yield several


def _approximate(texts: Sequence[str]) -> list[Spans]:
    found = [[match.span() for match in _PIECES.finditer(text)] for text in texts]
    return [np.array(own, np.int32).reshape(-1, 2) for own in found]


class PassageOptions(BaseModel):
    """Passages inside documents, in tokens of the slot's own encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: Annotated[int, Field(ge=16)] = Field(
        200, description="Maximum tokens of a passage, including its context; at most what the encoder reads."
    )
    overlap: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Maximum tokens shared with the passage before; null is a fifth of `tokens`."
    )
    context: tuple[Literal["title", "headings"], ...] = Field(
        ("title",), description="Put before each passage: the title, and the headings above it in Markdown."
    )
    pooling: Literal["each", "late"] = Field(
        "each",
        description="each: encode each passage by itself. late: take the mean of its token vectors from one pass over "
        "as many passages as the encoder reads; only for mean-pooled encoders that read several.",
    )

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.shared * 2 > self.tokens:
            raise ValueError(f"overlap is at most half of tokens, here {self.tokens // 2}")
        return self

    @property
    def shared(self) -> int:
        """The overlap in tokens."""
        return self.tokens // 5 if self.overlap is None else self.overlap
