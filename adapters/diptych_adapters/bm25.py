"""`NGrams`: BM25 over character n-grams, which finds words in spite of typing errors and inside longer words.

A word with a mistake shares most n-grams with the right one, while a stemmed word shares nothing. The n-grams of a word
are those of the word between two `_`, so that beginnings and ends count: `_mail_` has `_mai`, `mail` and `ail_`.
McNamee and Mayfield, "Character N-Gram Tokenization for European Language Text Retrieval", Information Retrieval 2004,
take 4 as the best length.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diptych.errors import ContractError
from diptych.protocols import Fingerprint, Statistics
from diptych.types import SparseVector
from diptych_adapters.lexicon import analysis
from diptych_adapters.lexicon.analysis import Analyzer
from diptych_adapters.model_options import UNSTEMMED, Bm25Options, Bm25Weights, LexiconOptions, NGramOptions

STOP = -1
CACHED_WORDS = 100_000

_BATCH = 1024  # texts that are counted together

CACHED_NGRAMS = 1_000_000  # distinct ones whose ids are kept: English has some 200,000 of length 4


class Bm25Vectors:
    """BM25 weights over the terms of a lexicon.

    Args:
        constant: the average length, as FastEmbed has it: no corpus changes it, and queries count each word once.

    `encode_document` needs `calibrate` or the option `average_length` first. Where nobody measures the corpus, as in a
    plain client, `assumed` is calibrated with.
    """

    dimension = 2**32
    uses_idf = True
    name: ClassVar[str]
    usual_length: ClassVar[float] = 256  # words a document, which FastEmbed's BM25 assumes

    def __init__(self, weights: Bm25Weights, lexicon: Lexicon, *, constant: float | None = None) -> None:
        self.lexicon, self._constant = lexicon, constant
        self._k1, self._b = weights.k1, weights.b
        self.average_length: float | None = constant or weights.average_length

    def measure(self, inputs: Sequence[str]) -> Statistics:
        """`documents` and `tokens` (counted words) of `inputs`; the measures of two batches can be added."""
        if self._constant:
            return {"documents": float(len(inputs)), "tokens": len(inputs) * self._constant}
        lengths = [self.lexicon.term_ids(batch)[1].sum() for batch in _batches(inputs)]
        return {"documents": float(len(inputs)), "tokens": float(sum(lengths))}

    @property
    def assumed(self) -> Statistics | None:
        """The corpus that is assumed where nobody measures it; None once the average length is known."""
        return {"documents": 1.0, "tokens": self.usual_length} if self.average_length is None else None

    def calibrate(self, statistics: Statistics) -> None:
        """Set the average length, tokens / documents, from a `measure` of the corpus.

        Raises:
            ContractError: a sum is missing, negative or not finite, or there is no document.
        """
        documents, tokens = (statistics.get(key, math.nan) for key in ("documents", "tokens"))
        if not (math.isfinite(documents) and math.isfinite(tokens) and documents > 0 and tokens >= 0):
            raise ContractError(
                f"{self.name} cannot take an average length from these statistics",
                got=dict(statistics),
                expected="documents > 0 and tokens >= 0, as measure(inputs) adds them up",
            )
        self.average_length = tokens / documents

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """For each query, the number of occurrences of each of its words."""
        return [vector for batch in _batches(inputs) for vector in self._encode(batch, None)]

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """For each document, the saturated and length-normalised counts of its words.

        Raises:
            ContractError: not calibrated yet.
        """
        if self.average_length is None:
            raise ContractError(
                f"{self.name} does not know the corpus's average length yet",
                expected="calibrate(statistics) before encode_document",
                do="populate measures the corpus first; where another program writes, set the option average_length; "
                "in your own code: encoder.calibrate(encoder.measure(texts))",
            )
        return [vector for batch in _batches(inputs) for vector in self._encode(batch, self.average_length)]

    def remember(self, texts: Sequence[str]) -> None:
        """Learn the words of `texts`, so that `decode` can name their terms, whoever encoded them."""
        self.lexicon.remember(texts)

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The terms as words, heaviest first; `#id` for words this process has not read (see `remember`)."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        return [(self.lexicon.word(int(vector.indices[i])), float(vector.values[i])) for i in order]

    def _encode(self, texts: Sequence[str], average_length: float | None) -> list[SparseVector]:
        ids, lengths = self.lexicon.term_ids(texts)
        rows = np.repeat(np.arange(len(texts), dtype=np.uint64), lengths)
        keys, counts = np.unique((rows << np.uint64(32)) | ids.astype(np.uint64), return_counts=True)
        row = (keys >> np.uint64(32)).astype(np.int64)
        indices = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        if average_length is None:
            weights = np.minimum(counts, 1) if self._constant else counts
        else:
            weights = self._saturate(counts, lengths[row], average_length)
        values = weights.astype(np.float32)
        ends = np.searchsorted(row, np.arange(len(texts) + 1))
        bounds = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        return [SparseVector(indices[start:end], values[start:end]) for start, end in bounds]

    def _saturate(self, counts: NDArray[Any], lengths: NDArray[np.int64], average: float) -> NDArray[np.float64]:
        """The weights of terms. A corpus without any word has no average: then every document counts as average."""
        k1, b = self._k1, self._b
        relative = lengths / average if average > 0 else np.ones(len(lengths))
        weights: NDArray[np.float64] = counts * (k1 + 1) / (counts + k1 * (1 - b + b * relative))
        return weights


class NGrams(Bm25Vectors):
    """BM25 weights over character n-grams; see `NGramOptions` for the options.

    `encode_document` needs `calibrate` or the option `average_length` first, as of `Bm25`; lengths count n-grams.
    """

    name = "ngrams"
    usual_length = 1024  # four of each word

    def __init__(self, **options: Any) -> None:
        self.options = NGramOptions(**options)
        super().__init__(self.options, Lexicon(_Splitter(self.options), cached_words=CACHED_NGRAMS))

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the n-grams, k1 and b. The average length belongs to the corpus, so it is not part."""
        # Options that came later are left out while they are off, so that older collections keep their fingerprint.
        later = set() if self.options.first_words else {"first_words"}
        facts = self.options.model_dump(exclude={"average_length", *later})
        text = json.dumps(["ngrams", analysis.VERSION, facts], sort_keys=True)
        return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def measure(self, inputs: Sequence[str]) -> Statistics:
        """`documents` and `tokens` (n-grams that are read) of documents; see `Bm25Vectors.measure`."""
        return super().measure(self._read(inputs))

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """As of `Bm25Vectors`, of the first words alone if `first_words` says so."""
        return super().encode_document(self._read(inputs))

    def _read(self, documents: Sequence[str]) -> Sequence[str]:
        """The part of each document that counts."""
        first = self.options.first_words
        return documents if first is None else [" ".join(text.split(maxsplit=first)[:first]) for text in documents]


class _Splitter(analysis.Analyzer):
    """The n-grams of a text's words, where `Analyzer` has the words."""

    def __init__(self, options: NGramOptions) -> None:
        folding = options.ascii_folding
        super().__init__(LexiconOptions(language="none", stopwords=[], min_token_length=1, ascii_folding=folding))
        self._lengths = range(options.minimum, options.maximum + 1)
        self._of_words: dict[str, list[str]] = {}

    def words(self, text: str) -> list[str]:
        """The n-grams of `text` in order."""
        if len(self._of_words) > CACHED_WORDS:
            self._of_words = {}
        return [ngram for word in super().words(text) for ngram in self._of_words.get(word) or self._split(word)]

    def _split(self, word: str) -> list[str]:
        bounded = f"_{word}_"
        ngrams = [bounded[i : i + n] for n in self._lengths for i in range(len(bounded) - n + 1)]
        self._of_words[word] = ngrams = ngrams or [bounded]
        return ngrams


class Bm25(Bm25Vectors):
    """BM25 weights over words; see `Bm25Options` for the options."""

    name = "bm25"

    def __init__(self, **options: Any) -> None:
        self.options = Bm25Options(**options)
        if self.options.compatible_with:
            lexicon = Lexicon(analysis.FastEmbedAnalyzer(self.options.language))
            super().__init__(self.options, lexicon, constant=self.options.average_length or self.usual_length)
        else:
            super().__init__(self.options, Lexicon(analysis.Analyzer(self.options)))

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of analysis, k1 and b. The average length belongs to the corpus, so it is not part."""
        # Options that came later are left out while they are off, so that older collections keep their fingerprint.
        later = {name for name in ("identifiers", "compatible_with") if not getattr(self.options, name)}
        facts = self.options.model_dump(exclude={"average_length", *later}) | {
            "stopwords": sorted(self.lexicon.analyzer.stopwords)
        }
        if self._constant:
            facts["average_length"] = self._constant
        text = json.dumps(["bm25", analysis.VERSION, facts], sort_keys=True, ensure_ascii=True)
        numerics = f"snowball {analysis.snowball_version()}"
        return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), numerics)

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of letters in scripts without spaces that this language does not cut, 0 to 1."""
        if self.options.language in UNSTEMMED:
            return 0.0
        return analysis.uncut_share(inputs, cuts_cjk=not self.options.compatible_with)


def _batches(inputs: Sequence[str]) -> list[Sequence[str]]:
    return [inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH)]


class Lexicon:
    """Term ids of texts, and words for term ids.

    Args:
        analyzer: makes words and stems.
        cached_words: about how many distinct words are kept. A call that starts with more begins anew and keeps the
            old ones until the next time, so memory is bounded on any corpus and the words of the last calls are known.
    """

    def __init__(self, analyzer: Analyzer, *, cached_words: int = CACHED_WORDS) -> None:
        self.analyzer = analyzer
        self._limit = cached_words
        self._memory = self._older = _Memory(analyzer)

    def term_ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The term ids of all texts in one array `[terms]`, and the number of terms of each text `[n]`."""
        memory = self._fresh_memory()
        term_ids_of_texts: list[int] = []
        lengths = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            ids = [i for i in map(memory.__getitem__, self.analyzer.words(text)) if i != STOP]
            term_ids_of_texts.extend(ids)
            lengths[row] = len(ids)
        return np.array(term_ids_of_texts, np.int64), lengths

    def remember(self, texts: Sequence[str]) -> None:
        """Learn the words of `texts`, so that `word` knows their ids."""
        memory = self._fresh_memory()
        for text in texts:
            for word in self.analyzer.words(text):
                memory[word]

    def word(self, term_id: int) -> str:
        """The shortest word seen with this id; `#id` if none was; joined by `|` if several stems share the id."""
        stems = {**self._older.stems.get(term_id, {}), **self._memory.stems.get(term_id, {})}
        return "|".join(stems[stem] for stem in sorted(stems)) if stems else f"#{term_id}"

    def _fresh_memory(self) -> _Memory:
        if len(self._memory) > self._limit:
            self._older, self._memory = self._memory, _Memory(self.analyzer)
        return self._memory


class _Memory(dict[str, int]):
    """Ids of words, computed once; `stems` maps an id to its stems, each with its shortest word."""

    def __init__(self, analyzer: Analyzer) -> None:
        super().__init__()
        self.stems: dict[int, dict[str, str]] = {}
        self._analyzer = analyzer

    def __missing__(self, word: str) -> int:
        stem = self._analyzer.stem(word)
        self[word] = term = STOP if not stem else self._analyzer.term_id(stem)
        if stem and term != STOP:
            words = self.stems.setdefault(term, {})
            words[stem] = min(words.get(stem, word), word, key=lambda w: (len(w), w))
        return term
