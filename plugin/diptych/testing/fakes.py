"""Deterministic encoders and a reranker for tests: cheap, and similar texts get similar vectors.

A text is its bag of words; a word's vector or id comes from a hash, so every process and machine gets the same answers.
`expand` adds words to documents only, as document expansion does: that makes the two sides really different.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.protocols import Fingerprint, Pair, Similarity, Statistics
from diptych.types import Floats, SparseVector

CallSide: TypeAlias = Literal["query", "document", "pair"]
_WORD = re.compile(r"\w+")


class Recorder:
    """Records calls, delays them, and fails on request.

    Args:
        fail_on_call: raise FakeFailure on this call, counted from 1.
        delay: seconds each call takes at least.
        record: keep the calls in `calls`; without it only `count` and `encoded` are kept, in bounded memory.
        log: a file that gets one JSON line `{"side", "inputs"}` per call, for tests that kill the process.
    """

    def __init__(
        self, *, fail_on_call: int | None = None, delay: float = 0.0, record: bool = True, log: str = ""
    ) -> None:
        self.fail_on_call, self.delay, self.record, self.log = fail_on_call, delay, record, log
        self.calls: list[Call] = []
        self.count = self.encoded = 0

    def called(self, side: CallSide, inputs: Sequence[str]) -> None:
        """Record a call.

        Raises:
            FakeFailure: this is the call to fail on.
        """
        self.count += 1
        if self.record:
            self.calls.append(Call(side, tuple(inputs)))
        if self.delay:
            time.sleep(self.delay)
        if self.count == self.fail_on_call:
            raise FakeFailure(f"call {self.count} fails, as it was told to")
        self.encoded += len(inputs)
        if self.log:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"side": side, "inputs": list(inputs)}) + "\n")


class WordLimit:
    """Satisfies `diptych.protocols.TokenLimit`: tokens are words, of which the first `max_tokens` are read."""

    max_tokens: int | None = None

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the words of each input are, int32 `[words, 2]`."""
        return [np.array([word.span() for word in _WORD.finditer(text)], np.int32).reshape(-1, 2) for text in inputs]

    def read_part(self, text: str) -> str:
        """The part of a document that is read."""
        if self.max_tokens is None:
            return text
        spans = self.token_spans([text])[0][: self.max_tokens]
        return text[: spans[-1, 1] if len(spans) else 0]


class FakeDenseEncoder(Recorder, WordLimit):
    """A dense encoder: the sum of a text's word vectors, normalised unless `normalized=False`.

    Args:
        dimension, similarity: as declared.
        seed: another seed is another space of the same dimension.
        query_prompt, document_prompt: words put before each text of a side, as models with instructions do.
        expand: words added to documents that hold a key: `{"feline": "cat"}`.
        normalized: whether vectors have length 1; declared, and kept.
        nan_word: texts with this word get a vector of NaN.
        max_tokens: words of a document that are read, None for all.
        fail_on_call, delay, record, log: see Recorder.
    """

    def __init__(
        self,
        *,
        dimension: int = 64,
        similarity: Similarity = "cosine",
        seed: int = 0,
        query_prompt: str = "",
        document_prompt: str = "",
        expand: Mapping[str, str] | None = None,
        normalized: bool = True,
        nan_word: str = "",
        max_tokens: int | None = None,
        fail_on_call: int | None = None,
        delay: float = 0.0,
        record: bool = True,
        log: str = "",
    ) -> None:
        super().__init__(fail_on_call=fail_on_call, delay=delay, record=record, log=log)
        self.dimension, self.similarity, self.normalized = dimension, similarity, normalized
        self.query_prompt, self.document_prompt, self.expand = query_prompt, document_prompt, dict(expand or {})
        self.nan_word, self._vectors = nan_word, WordVectors(dimension, seed)
        self.asymmetric, self.max_tokens = query_prompt != document_prompt or bool(expand), max_tokens
        expanded = sorted(self.expand.items())
        more = [max_tokens] if max_tokens else []
        facts = (dimension, seed, query_prompt, document_prompt, expanded, normalized, *more)
        documents = space_of("fake-dense documents", dimension, seed, document_prompt, expanded, normalized, *more)
        self.fingerprint = Fingerprint(space_of("fake-dense", *facts), "numpy", documents)

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        self.called("query", inputs)
        return self._encode([words_of(f"{self.query_prompt} {text}") for text in inputs])

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        self.called("document", inputs)
        texts = [f"{self.document_prompt} {self.read_part(text)}" for text in inputs]
        return self._encode([words_of(text, expand=self.expand) for text in texts])

    def _encode(self, bags: Sequence[Sequence[str]]) -> Floats:
        result = np.empty((len(bags), self.dimension), np.float32)
        for row, words in enumerate(bags):
            total = self._vectors.rows(words).sum(axis=0)
            result[row] = total / np.sqrt(np.square(total).sum()) if self.normalized else total
            if self.nan_word and self.nan_word in words:
                result[row] = np.nan
        return result


class FakeSparseEncoder(Recorder, WordLimit):
    """A sparse encoder: ids are hashed words, weights their counts.

    `decode` names the words this object has encoded; others are `#id`.
    """

    _two_sided: ClassVar[bool] = False

    def __init__(
        self,
        *,
        dimension: int = 2**20,
        uses_idf: bool = False,
        expand: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        fail_on_call: int | None = None,
        delay: float = 0.0,
        record: bool = True,
        log: str = "",
    ) -> None:
        super().__init__(fail_on_call=fail_on_call, delay=delay, record=record, log=log)
        self.dimension, self.uses_idf, self.expand = dimension, uses_idf, dict(expand or {})
        self.asymmetric, self.max_tokens = bool(expand) or self._two_sided, max_tokens
        facts = (dimension, sorted(self.expand.items()), *([max_tokens] if max_tokens else []))
        self.fingerprint = Fingerprint(space_of(type(self).__name__, *facts), "numpy")
        self._words: dict[int, str] = {}

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """How often each query says each of its words."""
        self.called("query", inputs)
        return [self._vector(Counter(words_of(text))) for text in inputs]

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """How often each document says each of its words, expansion included."""
        self.called("document", inputs)
        return [self._vector(Counter(words_of(self.read_part(text), expand=self.expand))) for text in inputs]

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The words with their weights, heaviest first."""
        pairs = zip(vector.indices.tolist(), vector.values.tolist(), strict=True)
        heaviest = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:top_k]
        return [(self._words.get(index, f"#{index}"), weight) for index, weight in heaviest]

    def _vector(self, weights: Mapping[str, float]) -> SparseVector:
        by_id: dict[int, float] = {}
        for word, weight in weights.items():
            index = word_id(word, self.dimension)
            self._words.setdefault(index, word)
            by_id[index] = by_id.get(index, 0.0) + weight
        return SparseVector.from_mapping(by_id)


class FakeCalibratedEncoder(FakeSparseEncoder):
    """A sparse encoder that satisfies Calibrated: document weights need the corpus's average length, as BM25's do."""

    average_length: float = 0.0
    _two_sided: ClassVar[bool] = True

    def measure(self, inputs: Sequence[str]) -> Statistics:
        """`documents` and `tokens` of `inputs`."""
        return {"documents": float(len(inputs)), "tokens": float(sum(len(words_of(text)) for text in inputs))}

    def calibrate(self, statistics: Statistics) -> None:
        """Take the average length from sums of `measure`."""
        self.average_length = statistics["tokens"] / statistics["documents"]

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Counts, saturated by relative length; needs `calibrate` first."""
        if not self.average_length:
            raise RuntimeError("encode_document before calibrate")
        self.called("document", inputs)
        vectors = []
        for text in inputs:
            words = words_of(self.read_part(text), expand=self.expand)
            relative = len(words) / self.average_length
            weights = {word: count / (count + relative) for word, count in Counter(words).items()}
            vectors.append(self._vector(weights))
        return vectors


class FakeMultiVectorEncoder(Recorder, WordLimit):
    """A multi-vector encoder: one vector of length 1 for each word, compared by MaxSim."""

    normalized = True

    def __init__(
        self,
        *,
        dimension: int = 32,
        similarity: Similarity = "cosine",
        seed: int = 0,
        expand: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        fail_on_call: int | None = None,
        delay: float = 0.0,
        record: bool = True,
        log: str = "",
    ) -> None:
        super().__init__(fail_on_call=fail_on_call, delay=delay, record=record, log=log)
        self.dimension, self.similarity, self.expand = dimension, similarity, dict(expand or {})
        self.asymmetric, self._vectors, self.max_tokens = bool(expand), WordVectors(dimension, seed), max_tokens
        more = [max_tokens] if max_tokens else []
        facts = ("fake-multivector", dimension, seed, sorted(self.expand.items()), *more)
        self.fingerprint = Fingerprint(space_of(*facts), "numpy")

    def encode_query(self, inputs: Sequence[str]) -> list[Floats]:
        """Word vectors of queries, each float32 `[words, dimension]`."""
        self.called("query", inputs)
        return [self._vectors.rows(words_of(text)) for text in inputs]

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """Word vectors of documents, each float32 `[words, dimension]`."""
        self.called("document", inputs)
        return [self._vectors.rows(words_of(self.read_part(text), expand=self.expand)) for text in inputs]


class FakeReranker(Recorder):
    """A reranker: the share of the query's words that the document has, less a trifle for the document's length."""

    max_length: int | None = None
    independent = True

    def __init__(
        self, *, fail_on_call: int | None = None, delay: float = 0.0, record: bool = True, log: str = ""
    ) -> None:
        super().__init__(fail_on_call=fail_on_call, delay=delay, record=record, log=log)
        self.fingerprint = Fingerprint(space_of("fake-reranker"), "numpy")

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]`."""
        self.called("pair", ["\t".join(pair) for pair in pairs])
        words = [(set(words_of(query)), words_of(document)) for query, document in pairs]
        scores = [len(asked & set(there)) / len(asked) - 1e-4 * min(len(there), 1000) for asked, there in words]
        return np.array(scores, np.float32)


class FakeFailure(RuntimeError):
    """Raised by a fake on the call that it was configured to fail."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a fake: the side and the inputs; of a reranker's pairs, query and document joined by a tab."""

    side: CallSide
    inputs: tuple[str, ...]


class WordVectors:
    """A fixed vector for each word: `[dimension]`, of length 1, from a hash of seed and word; the same everywhere."""

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension, self.seed = dimension, seed
        self._known: dict[str, Floats] = {}

    def __getitem__(self, word: str) -> Floats:
        vector = self._known.get(word)
        if vector is None:
            digest = hashlib.shake_128(f"{self.seed}:{word}".encode(errors="replace")).digest(self.dimension)
            raw = np.frombuffer(digest, np.uint8).astype(np.float32) - np.float32(127.5)
            vector = raw / np.sqrt(np.square(raw).sum())
            if len(self._known) < 50_000:
                self._known[word] = vector
        return vector

    def rows(self, words: Sequence[str]) -> Floats:
        """The vectors of `words`, float32 `[len(words), dimension]`."""
        return np.concatenate([self[word] for word in words]).reshape(len(words), self.dimension)


def words_of(text: str, *, expand: Mapping[str, str] | None = None) -> list[str]:
    """The lower-case words of `text`, with what `expand` adds to them; a text without words has the word ""."""
    words = _WORD.findall(text.lower())
    if expand:
        words += [expand[word] for word in words if word in expand]
    return words or [""]


@lru_cache(50_000)
def word_id(word: str, dimension: int) -> int:
    """An id below `dimension` for a word, the same in every process."""
    return int.from_bytes(hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest(), "big") % dimension


def space_of(*facts: object) -> str:
    """A short hash of everything that decides a fake's vectors."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()
