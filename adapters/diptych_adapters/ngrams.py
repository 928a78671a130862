"""`NGrams`: BM25 over character n-grams, which finds words in spite of typing errors and inside longer words.

A word with a mistake shares most n-grams with the right one, while a stemmed word shares nothing. The n-grams of a word
are those of the word between two `_`, so that beginnings and ends count: `_mail_` has `_mai`, `mail` and `ail_`.
McNamee and Mayfield, "Character N-Gram Tokenization for European Language Text Retrieval", Information Retrieval 2004,
take 4 as the best length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from diptych.protocols import Fingerprint, Statistics
from diptych.types import SparseVector
from diptych_adapters.bm25 import Bm25Vectors
from diptych_adapters.lexicon import analysis
from diptych_adapters.lexicon.options import LexiconOptions, NGramOptions
from diptych_adapters.lexicon.terms import Lexicon

CACHED_NGRAMS = 1_000_000  # distinct ones whose ids are kept: English has some 200,000 of length 4
CACHED_WORDS = 100_000


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
