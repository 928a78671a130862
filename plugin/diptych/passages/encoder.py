"""`PassageEncoder`: an adapter that reads documents passage by passage, as an encoder of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

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
from diptych.protocols import Calibrated, Encoder, Fingerprint, Kind, TokenLimit, TokenVectors
from diptych.types import Floats, SparseVector

K = TypeVar("K")
V = TypeVar("V")
_PIECE = 2048  # passages that are encoded in one call
_MOST_NUMBERS = 2**20 - 1  # of a multi-vector, in Qdrant
_MOST_PASSAGES, _A_DOCUMENT = 2**20, 16  # whose places are kept, in about 20 MB; what a document takes besides
_RULES = "1"  # counts the changes of the way documents are cut
_CUT = " passages:"  # in fingerprints, before what says how documents are cut
_OPTIONAL = ("uses_idf", "decode", "sample", "unread_share", "text_advice", "normalized")


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

    def __init__(self, inner: Encoder, kind: Kind, options: PassageOptions, hooks: PassageHooks | None = None) -> None:
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
        # Where texts were cut, by their hash: cutting ten documents again costs more than a search.
        self._known = LastUsed[bytes, NDArray[np.int32]](_MOST_PASSAGES, lambda places: len(places) + _A_DOCUMENT)
        for name in _OPTIONAL:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "look_at"):
            self.look_at = lambda texts: inner.look_at([text.replace(MARK, " ") for text in texts])

    def __repr__(self) -> str:
        return f"PassageEncoder({self.inner!r}, {self.options!r})"

    @property
    def identity(self) -> str:
        """As of `Identified`; "" where the encoder does not say."""
        identity = getattr(self.inner, "identity", "")
        return f"{identity} {self._rules}" if identity else ""

    def encode_query(self, inputs: Sequence[str]) -> list[Any]:
        """The queries' vectors; of a dense encoder each as float32 `[1, dimension]`."""
        vectors: Any = self.inner.encode_query(inputs)
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
            places = {_key(entry): np.array(own.places, np.int32) for entry, own in zip(inputs, documents, strict=True)}
            self._known.add(places, if_room=True)
        if self.options.pooling == "late":
            inner: Any = self.inner
            pooled = late_pooled(inner, documents, inner.max_tokens)
            if not inner.normalized:
                return pooled
            return [own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), np.float32(1e-12)) for own in pooled]
        texts = [self.splitter.read(document) for document in documents]
        flat = [text for own in texts for text in own]
        pieces = (flat[begin : begin + _PIECE] for begin in range(0, len(flat), _PIECE))
        vectors: Iterator[Any] = chain.from_iterable(map(self.inner.encode_document, pieces))
        join: Any = {"dense": np.stack, "multivector": np.concatenate}.get(self._kind, _highest)
        return [join([next(vectors) for _ in text]) for text in texts]

    def places(self, inputs: Sequence[str]) -> list[Places]:
        """Begin and end of each passage of each input, in characters of its text. Those used last are kept."""
        keys = [*map(_key, inputs)]
        known = dict(zip(keys, self._known.get(keys), strict=True))
        missing = {key: entry for key, entry in zip(keys, inputs, strict=True) if known[key] is None}
        cut = self.splitter.split([*missing.values()])
        found = {key: np.array(document.places, np.int32) for key, document in zip(missing, cut, strict=True)}
        self._known.add(found)
        places: dict[bytes, Any] = {**known, **found}
        return [tuple((begin, end) for begin, end in places[key].tolist()) for key in keys]

    def token_spans(self, inputs: Sequence[str]) -> list[Spans]:
        """As of `TokenLimit`."""
        return self.splitter.token_spans([entry.replace(MARK, " ") for entry in inputs])


class LastUsed(Generic[K, V]):
    """The values that were used last, up to a total size. Safe for threads.

    Args:
        most: the total size that is kept; larger values are not.
        size: of a value.
    """

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        self._most, self._size_of = most, size
        self._size, self._lock = 0, threading.Lock()
        self._kept: dict[K, V] = {}  # least recently used first

    def get(self, keys: Iterable[K]) -> list[V | None]:
        """The value of each key; None where it is not kept."""
        wanted = [*keys]
        with self._lock:
            found = {key: self._kept.pop(key) for key in dict.fromkeys(wanted) if key in self._kept}
            self._kept |= found
        return [found.get(key) for key in wanted]

    def add(self, values: Mapping[K, V], *, if_room: bool = False) -> None:
        """Keep these, and forget those that were used longest ago while there are too many.

        Args:
            values: by their keys.
            if_room: keep only what is not known yet and pushes out no other.
        """
        with self._lock:
            for key, value in values.items():
                known, size = self._kept.get(key), self._size_of(value)
                if size > self._most or (if_room and (known is not None or self._size + size > self._most)):
                    continue
                self._size += size - (0 if known is None else self._size_of(known))
                self._kept.pop(key, None)
                self._kept[key] = value
            while self._size > self._most:
                self._size -= self._size_of(self._kept.pop(next(iter(self._kept))))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


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
    texts = []
    for document, each in zip(documents, stretches, strict=True):
        for first, end in each:
            text = document.text[document.places[first][0] : document.places[end - 1][1]]
            texts.append(" ".join(filter(None, (document.title, text))))
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
