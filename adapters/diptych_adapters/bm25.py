"""`Bm25`: the lexicon whose scores Qdrant computes, with the corpus's own average length.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), in Lucene's form: a document's
score is the sum over the query's words of `idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average length))`.
The document vector holds the second factor, the query vector how often the query says the word; Qdrant's IDF modifier
supplies `idf = ln(1 + (N - n + 0.5) / (n + 0.5))`.
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
from diptych_adapters.lexicon.options import UNSTEMMED, Bm25Options, Bm25Weights
from diptych_adapters.lexicon.terms import Lexicon

_BATCH = 1024  # texts that are counted together


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
