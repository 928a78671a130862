"""`Splitter`: cuts documents into passages by `PassageOptions` or by a plugin, and puts context before them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from diptych.errors import HookError, brief
from diptych.passages.text_splitter import Boundaries, Spans, Split

MARK = "\x1e"  # ASCII's record separator: stands between title and text in the input of an encoder with passages
Places: TypeAlias = tuple[tuple[int, int], ...]  # begin and end of each passage in the text, in characters
TellSpans: TypeAlias = Callable[[Sequence[str]], list[Spans]]
_SEGMENT = 100_000  # characters that are cut into tokens at once, so that long documents take bounded memory
_TOGETHER = 10 * _SEGMENT  # characters that are cut in one call
_PIECES = re.compile(r"[^\W_]{1,4}|[^\w\s]|_")  # about the tokens of an encoder that does not tell its own
OPTION = "passages"  # the key beside an adapter's own options


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
        if places is not None and not _fit(places, len(text)):
            what, expected = "diptych_split_document returned unusable places", f"(begin, end) pairs within {len(text)}"
            raise HookError(
                what, got=brief(places), expected=f"{expected} characters, by their beginning, one at least"
            )
        return places


def _fit(places: Sequence[tuple[int, int]], length: int) -> bool:
    try:
        begins = [begin for begin, _ in places]
        return bool(begins) and begins == sorted(begins) and all(0 <= begin < end <= length for begin, end in places)
    except (TypeError, ValueError):
        return False


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
