"""`PassageEncoder`: an adapter that reads documents passage by passage, as an encoder of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from diptych.errors import AdapterOptionsError, DocumentError
from diptych.passages.boundaries import Boundaries
from diptych.passages.options import OPTION, PassageOptions
from diptych.passages.split import Spans, Split
from diptych.protocols import Calibrated, Fingerprint, Kind, TokenLimit
from diptych.types import SparseVector

MARK = "\x1e"  # ASCII's record separator: stands between title and text in the input of such an encoder
_PIECE = 2048  # passages that are encoded in one call
_SEGMENT = 100_000  # characters that are cut into tokens at once, so that long documents take bounded memory
_MOST_NUMBERS = 2**20 - 1  # of a multi-vector, in Qdrant
_RULES = "1"  # counts the changes of the way documents are cut
_OPTIONAL = ("uses_idf", "decode", "sample", "unread_share", "normalized")
_PIECES = re.compile(r"[^\W_]{1,4}|[^\w\s]|_")  # about the tokens of an encoder that does not tell its own


@dataclass(frozen=True, slots=True)
class Part:
    """A passage of an input: begin and end in the text, and what is encoded, its context included."""

    start: int
    end: int
    read: str


class Inner(Protocol):
    """What is common to the wrapped encoders."""

    dimension: int

    def encode_query(self, inputs: Sequence[str]) -> Any:
        """See `diptych.protocols`."""
        ...

    def encode_document(self, inputs: Sequence[str]) -> Any:
        """See `diptych.protocols`."""
        ...


def vector_kind(kind: Kind, options: Mapping[str, Any]) -> Kind:
    """The kind of the vectors that an adapter of this kind makes with these options."""
    return "multivector" if kind == "dense" and options.get(OPTION) is not None else kind


class PassageEncoder:
    """Encodes each passage of a document on its own.

    A dense encoder becomes a multi-vector one, with a vector a passage; of a multi-vector encoder the token vectors of
    all passages are taken together, of a sparse one each term's highest weight. A query is encoded as without passages.

    An input is title and text with `MARK` between them; without the mark it is all text.

    Args:
        inner: the encoder.
        kind: its kind.
        options: how documents are cut.
    """

    def __init__(self, inner: Inner, kind: Kind, options: PassageOptions) -> None:
        self.inner, self.options, self._kind = inner, options, kind
        self.dimension = inner.dimension
        self.similarity = getattr(inner, "similarity", None)
        self.max_tokens: int | None = None  # it reads everything
        self._rules = hashlib.sha256(
            f"{_RULES} {options.tokens} {options.shared} {options.context}".encode()
        ).hexdigest()[:12]
        fingerprint = getattr(inner, "fingerprint", None)
        if isinstance(fingerprint, Fingerprint):  # else it is derived from the options, these included
            space, documents = f"{fingerprint.space} passages:{self._rules}", fingerprint.documents
            documents = documents and f"{documents} passages:{self._rules}"
            self.fingerprint = Fingerprint(space, fingerprint.numerics, documents)
        for name in _OPTIONAL:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "look_at"):
            self.look_at = self._look_at

    def __repr__(self) -> str:
        return f"PassageEncoder({self.inner!r}, {self.options!r})"

    @property
    def identity(self) -> str:
        """As of `Identified`; "" where the encoder does not say."""
        identity = getattr(self.inner, "identity", "")
        return f"{identity} {self._rules}" if identity else ""

    def encode_query(self, inputs: Sequence[str]) -> list[Any]:
        """The queries' vectors; of a dense encoder each as float32 `[1, dimension]`."""
        vectors = self.inner.encode_query(inputs)
        return [vector[np.newaxis] for vector in vectors] if self._kind == "dense" else vectors

    def encode_document(self, inputs: Sequence[str]) -> list[Any]:
        """The documents' vectors; of a dense encoder float32 `[passages_i, dimension]`.

        Raises:
            DocumentError: a document has more passages than a point can hold.
        """
        parts = self.parts(inputs)
        for own in parts:
            self._require_room(own)
        vectors = iter(self._encoded([part.read for own in parts for part in own]))
        return [self._joined([next(vectors) for _ in own]) for own in parts]

    def parts(self, inputs: Sequence[str]) -> list[list[Part]]:
        """The passages of each input, in the order of its text, one at least."""
        pairs = [
            (title.strip(), text) if mark else ("", title)
            for title, mark, text in (own.partition(MARK) for own in inputs)
        ]
        spans = self._token_spans([part for pair in pairs for part in pair])
        return [list(self._parts(title, text, spans[2 * n], spans[2 * n + 1])) for n, (title, text) in enumerate(pairs)]

    def token_spans(self, inputs: Sequence[str]) -> list[Spans]:
        """As of `TokenLimit`."""
        return self._token_spans([own.replace(MARK, " ") for own in inputs])

    def _look_at(self, texts: Sequence[str]) -> None:
        self.inner.look_at([text.replace(MARK, " ") for text in texts])  # type: ignore[attr-defined]

    def _parts(self, title: str, text: str, title_spans: Spans, spans: Spans) -> Iterator[Part]:
        boundaries, context = Boundaries.of(text), self.options.context
        title = _first(title, title_spans, self.options.tokens // 4)
        named, titled = title if "title" in context else "", min(len(title_spans), self.options.tokens // 4)

        def path(place: int) -> str:
            return " > ".join(boundaries.path(place)) if "headings" in context else ""

        def room(place: int) -> int:
            above = len(path(place)) // 4  # tokens, roughly; the encoder cuts what is too long by a few
            return self.options.tokens - (titled if named else 0) - min(above, self.options.tokens // 4)

        places = list(Split(len(text), spans, boundaries).passages(room, self.options.shared)) or [(0, len(text))]
        for start, end in places:
            end = start + len(text[start:end].rstrip())
            above = path(start)[: self.options.tokens] if len(places) > 1 else ""
            yield Part(start, end, " ".join(filter(None, (named, above, text[start:end]))))

    def _require_room(self, parts: Sequence[Part]) -> None:
        most = _MOST_NUMBERS // self.dimension
        if self._kind == "dense" and len(parts) > most:
            what, do = (
                "too many passages for one point",
                "raise passages.tokens, lower its overlap, or cut the document",
            )
            raise DocumentError(what, got=f"{len(parts):,} passages", expected=f"at most {most:,}", do=do)

    def _encoded(self, texts: Sequence[str]) -> Iterator[Any]:
        for begin in range(0, len(texts), _PIECE):
            yield from self.inner.encode_document(texts[begin : begin + _PIECE])

    def _joined(self, vectors: Sequence[Any]) -> Any:
        if self._kind == "dense":
            return np.stack(vectors)
        return np.concatenate(vectors) if self._kind == "multivector" else _highest(vectors)

    def _token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """The tokens of each text; long ones are cut into tokens piece by piece."""
        pieces = [[*_segments(text)] for text in texts]
        flat = [text[begin:end] for text, own in zip(texts, pieces, strict=True) for begin, end in own]
        tell = self.inner.token_spans if isinstance(self.inner, TokenLimit) else _approximate
        spans = iter(tell(flat) if flat else ())
        empty = np.zeros((0, 2), np.int32)
        return [np.concatenate([empty, *(next(spans) + begin for begin, _ in own)]) for own in pieces]


def with_passages(inner: Any, kind: Kind, options: PassageOptions, *, where: str) -> PassageEncoder:
    """The encoder, which reads documents passage by passage.

    Raises:
        AdapterOptionsError: it cannot, or it reads fewer tokens than a passage has.
    """
    reason = ""
    if isinstance(inner, Calibrated):
        reason = "it reads whole documents, and its weights count their length"
    elif getattr(inner, "similarity", None) == "euclidean":
        reason = "passages are compared by cosine or dot product, and it needs distances"
    if reason:
        do = "leave `passages` out"
        raise AdapterOptionsError("this adapter takes no passages", where=where, got=reason, do=do, key="passages")
    most = inner.max_tokens if isinstance(inner, TokenLimit) else None
    if most is not None and options.tokens > most:
        what, key = "passages are longer than the encoder reads", "passages.tokens"
        raise AdapterOptionsError(what, where=where, got=options.tokens, expected=f"at most {most}", key=key)
    return PassageEncoder(inner, kind, options)


def _first(text: str, spans: Spans, most: int) -> str:
    """The text up to its token `most`."""
    return text if len(spans) <= most else text[: int(spans[most - 1, 1])]


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of a text, cut at the ends of lines or words where there are some."""
    begin = 0
    while begin < len(text):
        end = min(begin + _SEGMENT, len(text))
        if end < len(text):
            end = max(text.rfind("\n", begin, end), text.rfind(" ", end - 1000, end), begin + _SEGMENT // 2)
        yield begin, end
        begin = end


def _approximate(texts: Sequence[str]) -> list[Spans]:
    found = [[match.span() for match in _PIECES.finditer(text)] for text in texts]
    return [np.array(own, np.int32).reshape(-1, 2) for own in found]


def _highest(vectors: Sequence[SparseVector]) -> SparseVector:
    """Each term's highest weight."""
    indices = np.concatenate([own.indices for own in vectors])
    values = np.concatenate([own.values for own in vectors])
    order = np.lexsort((values, indices))
    last = np.append(indices[order][1:] != indices[order][:-1], True) if len(order) else np.zeros(0, bool)
    return SparseVector(indices[order][last], values[order][last])
