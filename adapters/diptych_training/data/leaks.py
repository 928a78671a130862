"""Detects training texts that give away a test query."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")


class Leaks:
    """Test queries that no training text may repeat.

    A text leaks if it shares `words` consecutive words with a test query or, if either is shorter, has the same words.

    Args:
        queries: texts of the test queries.
        words: how many in a row.
    """

    def __init__(self, queries: Iterable[str], *, words: int = 5) -> None:
        self._words = words
        word_lists = [tuple(plain_words(query)) for query in queries]
        self._texts = set(word_lists) - {()}
        self._runs = {run for text in word_lists for run in runs(text, words)}

    def __contains__(self, text: str) -> bool:
        words = tuple(plain_words(text))
        return words in self._texts or any(run in self._runs for run in runs(words, self._words))


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def runs(words: tuple[str, ...], length: int) -> list[tuple[str, ...]]:
    """All runs of so many words."""
    return [words[at : at + length] for at in range(len(words) - length + 1)]
