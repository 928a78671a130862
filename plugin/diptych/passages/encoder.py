"""`PassageEncoder`: an adapter that reads documents passage by passage, as an encoder of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from diptych.errors import AdapterOptionsError, DocumentError
from diptych.passages.text_splitter import (
    MARK,
    OPTION,
    PassageHooks,
    PassageOptions,
    Places,
    Spans,
    SplitDocument,
    Splitter,
)
from diptych.protocols import Calibrated, Fingerprint, Kind, TokenLimit, TokenVectors
from diptych.types import Floats, SparseVector

_PIECE = 2048  # passages that are encoded in one call
_MOST_NUMBERS = 2**20 - 1  # of a multi-vector, in Qdrant
_MOST_DOCUMENTS, _MOST_PASSAGES = 2**16, 2**20  # whose places are kept, in about 20 MB
_RULES = "1"  # counts the changes of the way documents are cut
_CUT = " passages:"  # in fingerprints, before what says how documents are cut
_OPTIONAL = ("uses_idf", "decode", "sample", "unread_share", "normalized")


class Inner(Protocol):
    """What is common to the wrapped encoders."""

    dimension: int

    def encode_query(self, inputs: Sequence[str]) -> Any:
        """See `diptych.protocols`."""
        ...

    def encode_document(self, inputs: Sequence[str]) -> Any:
        """See `diptych.protocols`."""
        ...


def without_passages(fingerprint: str) -> str:
    """The part of a fingerprint that is the encoder's own, whether it reads passages or not."""
    return fingerprint.partition(_CUT)[0]


class PassageEncoder:
    """Encodes each passage of a document on its own.

    A dense encoder becomes a multi-vector one, with a vector a passage; of a multi-vector encoder the token vectors of
    all passages are taken together, of a sparse one each term's highest weight. A query is encoded as without passages.

    An input is title and text with `MARK` between them; without the mark it is all text.

    Args:
        inner: the encoder.
        kind: its kind.
        options: how documents are cut.
        hooks: what plugins do to passages.
    """

    def __init__(self, inner: Inner, kind: Kind, options: PassageOptions, hooks: PassageHooks | None = None) -> None:
        self.inner, self.options, self._kind = inner, options, kind
        hooks = hooks or PassageHooks()
        self.splitter = Splitter(options, inner.token_spans if isinstance(inner, TokenLimit) else None, hooks)
        self.dimension = inner.dimension
        self.similarity = getattr(inner, "similarity", None)
        self.max_tokens: int | None = None  # it reads everything
        rules = f"{_RULES} {options.tokens} {options.shared} {options.context} {options.pooling} {hooks.names}"
        self._rules = hashlib.sha256(rules.encode()).hexdigest()[:12]
        fingerprint = getattr(inner, "fingerprint", None)
        if isinstance(fingerprint, Fingerprint):  # else it is derived from the options, these included
            space, documents = f"{fingerprint.space}{_CUT}{self._rules}", fingerprint.documents
            documents = documents and f"{documents}{_CUT}{self._rules}"
            self.fingerprint = Fingerprint(space, fingerprint.numerics, documents)
        self._known = KnownPlaces()
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
        documents = self.splitter.split(inputs)
        for document in documents:
            most, count = _MOST_NUMBERS // self.dimension, len(document.places)
            if self._kind == "dense" and count > most:
                do = "raise passages.tokens, lower its overlap, or cut the document"
                got, expected = f"{count:,} passages", f"at most {most:,}"
                raise DocumentError("too many passages for one point", got=got, expected=expected, do=do)
        if self._kind == "dense":  # hits show passages of dense slots only
            self._known.add_if_room(inputs, [document.places for document in documents])
        if self.options.pooling == "late":
            return self._late_pooled(documents)
        texts = [self.splitter.read(document) for document in documents]
        vectors = self._encoded([text for own in texts for text in own])
        return [self._joined([next(vectors) for _ in text]) for text in texts]

    def places(self, inputs: Sequence[str]) -> list[Places]:
        """Begin and end of each passage of each input, in characters of its text. Those used last are kept."""
        known = self._known.of(inputs)
        missing = [entry for entry, places in zip(inputs, known, strict=True) if places is None]
        found = [document.places for document in self.splitter.split(missing)]
        self._known.add(missing, found)
        rest = iter(found)
        return [next(rest) if places is None else places for places in known]

    def token_spans(self, inputs: Sequence[str]) -> list[Spans]:
        """As of `TokenLimit`."""
        return self.splitter.token_spans([entry.replace(MARK, " ") for entry in inputs])

    def _look_at(self, texts: Sequence[str]) -> None:
        self.inner.look_at([text.replace(MARK, " ") for text in texts])  # type: ignore[attr-defined]

    def _late_pooled(self, documents: Sequence[SplitDocument]) -> list[Any]:
        inner: Any = self.inner
        vectors = late_pooled(inner, documents, inner.max_tokens)
        if not inner.normalized:
            return list(vectors)
        return [
            vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), np.float32(1e-12)) for vector in vectors
        ]

    def _encoded(self, texts: Sequence[str]) -> Iterator[Any]:
        for begin in range(0, len(texts), _PIECE):
            yield from self.inner.encode_document(texts[begin : begin + _PIECE])

    def _joined(self, vectors: Sequence[Any]) -> Any:
        if self._kind == "dense":
            return np.stack(vectors)
        return np.concatenate(vectors) if self._kind == "multivector" else _highest(vectors)


class KnownPlaces:
    """Remembers where texts were cut, since cutting ten documents again costs more than a search. Safe for threads.

    Args:
        documents, passages: the most whose places are kept; those that were used longest ago are forgotten first.
    """

    def __init__(self, documents: int = _MOST_DOCUMENTS, passages: int = _MOST_PASSAGES) -> None:
        self._most_documents, self._most_passages = documents, passages
        self._kept: dict[bytes, bytes] = {}  # least recently used first; int32, a tenth of the tuples' size
        self._passages = 0
        self._lock = threading.Lock()

    def of(self, texts: Sequence[str]) -> list[Places | None]:
        """The places of each text; None where they are not known."""
        keys = [*map(_key, texts)]
        with self._lock:
            kept = [self._kept.get(key) for key in keys]
            for key, places in zip(keys, kept, strict=True):
                if places is not None:
                    self._kept[key] = self._kept.pop(key)
        return [None if places is None else _places(places) for places in kept]

    def add(self, texts: Sequence[str], places: Sequence[Places]) -> None:
        """Keep the places of these texts; if there are too many, forget those that were used longest ago."""
        rows = [
            (_key(text), spans) for text, spans in zip(texts, places, strict=True) if len(spans) <= self._most_passages
        ]
        with self._lock:
            for key, own in rows:
                self._forget(key)
                self._keep(key, own)
            while len(self._kept) > self._most_documents or self._passages > self._most_passages:
                self._forget(next(iter(self._kept)))

    def add_if_room(self, texts: Sequence[str], places: Sequence[Places]) -> None:
        """Keep the places of these texts until one would push out others."""
        for text, own in zip(texts, places, strict=True):
            if not self._has_room(own):
                return
            key = _key(text)
            with self._lock:
                if key not in self._kept and self._has_room(own):
                    self._keep(key, own)

    def _has_room(self, places: Places) -> bool:
        return len(self._kept) < self._most_documents and self._passages + len(places) <= self._most_passages

    def _keep(self, key: bytes, places: Places) -> None:
        self._kept[key] = np.array(places, np.int32).tobytes()
        self._passages += len(places)

    def _forget(self, key: bytes) -> None:
        self._passages -= len(self._kept.pop(key, b"")) // 8


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _places(kept: bytes) -> Places:
    return tuple((begin, end) for begin, end in np.frombuffer(kept, np.int32).reshape(-1, 2).tolist())


def with_passages(
    inner: Any, kind: Kind, options: PassageOptions, hooks: PassageHooks | None = None, *, where: str
) -> PassageEncoder:
    """The encoder, which reads documents passage by passage.

    Raises:
        AdapterOptionsError: it cannot, or it reads fewer tokens than a passage has.
    """
    most = inner.max_tokens if isinstance(inner, TokenLimit) else None
    if reason := _unfit(inner, kind, options, most):
        what, do = "this adapter takes no passages", "leave `passages` out"
        if options.pooling == "late" and not _unfit(inner, kind, options.model_copy(update={"pooling": "each"}), most):
            what, do = "this adapter cannot pool late", "leave `passages.pooling` out"
        raise AdapterOptionsError(what, where=where, got=reason, do=do, key=OPTION)
    if most is not None and options.tokens > most:
        what, key = "passages are longer than the encoder reads", f"{OPTION}.tokens"
        raise AdapterOptionsError(what, where=where, got=options.tokens, expected=f"at most {most}", key=key)
    return PassageEncoder(inner, kind, options, hooks)


def _unfit(inner: Any, kind: Kind, options: PassageOptions, most: int | None) -> str:
    """Why the encoder cannot make such passages; "" if it can."""
    if isinstance(inner, Calibrated):
        return "it reads whole documents, and its weights count their length"
    if getattr(inner, "similarity", None) == "euclidean":
        return "passages are compared by cosine or dot product, and it needs distances"
    if options.pooling == "each":
        return ""
    if kind != "dense" or not isinstance(inner, TokenVectors):
        return "it does not show the vectors of its tokens"
    if not inner.mean_pooled:
        return "its vectors are something else than means of token vectors"
    if most is not None and most < 2 * options.tokens:
        return f"it reads {most} tokens, which are less than two passages"
    return ""


def _highest(vectors: Sequence[SparseVector]) -> SparseVector:
    """Each term's highest weight."""
    indices = np.concatenate([vector.indices for vector in vectors])
    values = np.concatenate([vector.values for vector in vectors])
    order = np.lexsort((values, indices))
    last = np.append(indices[order][1:] != indices[order][:-1], True) if len(order) else np.zeros(0, bool)
    return SparseVector(indices[order][last], values[order][last])


def late_pooled(inner: TokenVectors, documents: Sequence[SplitDocument], most: int | None) -> list[Floats]:
    """The passages' vectors of each document, `[passages_i, dimension]`.

    A document that is longer than the encoder reads is read in stretches of whole passages, the title before each.

    Args:
        inner: the encoder.
        documents: with their passages.
        most: tokens that the encoder reads, None for all.
    """
    stretches = [[*_stretches(document, most)] for document in documents]
    texts = [_text(document, own) for document, each in zip(documents, stretches, strict=True) for own in each]
    vectors = iter(inner.token_vectors(texts) if texts else ())
    return [
        np.concatenate([_means(document, own, next(vectors)) for own in each])
        for document, each in zip(documents, stretches, strict=True)
    ]


def _stretches(document: SplitDocument, most: int | None) -> Iterator[tuple[int, int]]:
    """First and last passage of each stretch."""
    begin, room = 0, None if most is None else most - document.title_tokens
    for n in range(1, len(document.places)):
        first, last = document.places[begin][0], document.places[n][1]
        if room is not None and _count(document, first, last) > room:
            yield begin, n
            begin = n
    yield begin, len(document.places)


def _text(document: SplitDocument, stretch: tuple[int, int]) -> str:
    text = document.text[document.places[stretch[0]][0] : document.places[stretch[1] - 1][1]]
    return " ".join(filter(None, (document.title, text)))


def _means(document: SplitDocument, stretch: tuple[int, int], vectors: Floats) -> Floats:
    """The mean of each passage's token vectors; those of the title come first, and are left out."""
    first = document.places[stretch[0]][0]
    offset = len(vectors) - _count(document, first, document.places[stretch[1] - 1][1])
    rows = []
    for begin, end in document.places[stretch[0] : stretch[1]]:
        start = max(0, offset) + _count(document, first, begin)
        own = vectors[start : start + max(1, _count(document, begin, end))]
        rows.append((own if len(own) else vectors[-1:]).mean(axis=0))
    return np.stack(rows).astype(np.float32)


def _count(document: SplitDocument, begin: int, end: int) -> int:
    """Tokens between two places of the text."""
    starts = document.spans[:, 0]
    return int(np.searchsorted(starts, end) - np.searchsorted(starts, begin))
