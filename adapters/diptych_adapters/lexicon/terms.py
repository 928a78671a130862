"""`Lexicon`: ids for terms, the same on every machine, and words for ids.

A term's id is a hash of its stem, so no vocabulary has to be stored, shared or synchronised between writers. Ids become
words again by reading texts: see `remember`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.lexicon.analysis import Analyzer

STOP = -1
CACHED_WORDS = 100_000


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
