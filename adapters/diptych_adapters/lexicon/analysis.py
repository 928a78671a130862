"""Splits texts into words, and reduces words to stems."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.errors import MissingExtra
from diptych.runtime.text_budget import stream_safe
from diptych_adapters.model_options import UNSTEMMED, LexiconOptions

VERSION = 1  # raised when the same text and options would give other terms
BLOCK = 128  # characters, about those of a script
# Scripts without spaces between words: kana and Chinese characters; then Thai, Lao, Burmese and Khmer.
_CJK_RANGES = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
_SOUTHEAST_ASIAN = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
_IDENTIFIER = re.compile(r"\b(?=[A-Za-z0-9_]*(?:[a-z0-9][A-Z]|[A-Z]{2}[a-z]|[A-Za-z0-9]_+[A-Za-z0-9]))[A-Za-z0-9_]+\b")
_SEPARATORS = re.compile(r"[^\w\s]")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def _runs_of(*ranges: tuple[int, int]) -> re.Pattern[str]:
    return re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]+")


_CJK, _SPACELESS = _runs_of(*_CJK_RANGES), _runs_of(*_CJK_RANGES, *_SOUTHEAST_ASIAN)


class Analyzer:
    """Words and stems of texts.

    A text is brought to Unicode form NFKC and lower case. A word is a run of letters, digits, underscores and the
    marks that sit on letters; words outside the allowed lengths and stop words are left out. Runs of Chinese
    characters and Japanese kana, which have no spaces, become overlapping pairs, as in Lucene's CJKAnalyzer. So do
    Thai, Lao, Khmer and Burmese with a language of `UNSTEMMED`, where a pair is two letters with the marks on them. The
    rest is stemmed by Snowball.

    With `identifiers` the names in program code count as a whole and by their parts: `getUserName` is also `get`,
    `user` and `name`.
    """

    def __init__(self, options: LexiconOptions) -> None:
        self.options = options
        self.stopwords = frozenset(self._brought_to_form(word) for word in _stopwords(options))
        self._stemmer = _stemmer(options.language)
        self._lock = threading.Lock()  # Snowball's stemmers keep state while they work
        self._spaceless = _SPACELESS if options.language in UNSTEMMED else _CJK
        self._plain_words = re.compile(rf"\b\w{{{options.min_token_length},{options.max_token_length}}}\b")

    def words(self, text: str) -> list[str]:
        """The words of `text` in order, including stop words."""
        if self.options.identifiers:
            text = _IDENTIFIER.sub(_with_parts, text)
        text = self._brought_to_form(text)
        if text.isascii():
            return self._plain_words.findall(text)
        marks = _blocks_of_marks(text)
        if not marks and not self._spaceless.search(text):
            return self._plain_words.findall(text)
        return list(self._unusual_words(text, marks))

    def stem(self, word: str) -> str | None:
        """The stem of `word`, None for a stop word."""
        if word in self.stopwords:
            return None
        if self._stemmer is None:
            return word
        with self._lock:
            return str(self._stemmer.stemWord(word))

    def term_id(self, stem: str) -> int:
        """The id of a stem: 32 bits of BLAKE2b over its UTF-8 bytes.

        Among n stems about n * n / 2**33 pairs share an id: one pair in 100,000 stems.
        """
        return int.from_bytes(hashlib.blake2b(stem.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")

    def _unusual_words(self, text: str, marks: tuple[int, ...]) -> Iterator[str]:
        low, high = self.options.min_token_length, self.options.max_token_length
        for word in _words_with_marks(marks).findall(text):
            for part in _split_spaceless(word, self._spaceless):
                if low <= len(part) <= high or self._spaceless.match(part):
                    yield part

    def _brought_to_form(self, text: str) -> str:
        if text.isascii():
            return text.lower()
        text = unicodedata.normalize("NFKC", stream_safe(text)).lower()
        if not self.options.ascii_folding:
            return text
        plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        return unicodedata.normalize("NFC", plain)


class FastEmbedAnalyzer(Analyzer):
    """The words and ids of FastEmbed's `Qdrant/bm25`: Qdrant's own code knows its stop words, stemmers and hashes."""

    def __init__(self, language: str) -> None:
        super().__init__(LexiconOptions(language="none", stopwords=[], min_token_length=1, max_token_length=40))
        from qdrant_edge import Bm25, Bm25Config, TokenizerType

        self._qdrant = Bm25(Bm25Config(tokenizer=TokenizerType.Whitespace, lowercase=False, language=language))

    def words(self, text: str) -> list[str]:
        """The words of `text` in order, including stop words."""
        text = _SEPARATORS.sub(" ", text).lower()  # in this order: what follows a Greek sigma decides its small letter
        return [word for word in self._plain_words.findall(text) if word != "_"]

    def stem(self, word: str) -> str | None:
        """The id of the word's stem, as text, since Qdrant does not give the stem; None for a stop word."""
        with self._lock:
            return next(map(str, self._qdrant.embed_query(word).indices), None)

    def term_id(self, stem: str) -> int:
        """The id that `stem` returned, as a number."""
        return int(stem)


def uncut_share(texts: Iterable[str], *, cuts_cjk: bool) -> float:
    """The share of letters in scripts without spaces between words, of those that are not cut into pairs.

    Args:
        texts: a sample of a collection.
        cuts_cjk: whether Chinese and Japanese are cut.
    """
    letters = spaceless = cut = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        spaceless += _letters_in(text, _SPACELESS)
        cut += _letters_in(text, _CJK) if cuts_cjk else 0
    return (spaceless - cut) / letters if letters else 0.0


def snowball_version() -> str:
    """The version of the stemmers."""
    import Stemmer

    return str(Stemmer.version())


def _stemmer(language: str) -> Any:  # PyStemmer has no types
    if language in ("none", *UNSTEMMED):
        return None
    import Stemmer

    return Stemmer.Stemmer(language, 0)  # 0: no cache of its own, the lexicon keeps one


def _stopwords(options: LexiconOptions) -> Iterable[str]:
    if isinstance(options.stopwords, list):
        return options.stopwords
    if options.language in UNSTEMMED:
        return ()  # the lists hold words, and pairs are none
    english = "EN_PLUS" if options.stopwords == "nltk" else "EN"  # NLTK's, or the short list of Lucene
    name = english if options.language == "english" else options.language.upper()
    words: tuple[str, ...] = getattr(_stopword_module(), f"STOPWORDS_{name}", ())
    return words


@functools.cache
def _stopword_module() -> ModuleType:
    """The module `bm25s.stopwords` alone: importing its package would import scipy, numba and jax if present."""
    package = importlib.util.find_spec("bm25s")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("the stop words are not installed", expected="package bm25s", do="pip install bm25s")
    path = Path(package.submodule_search_locations[0], "stopwords.py")
    spec = importlib.util.spec_from_file_location("_diptych_stopwords", path)
    if spec is None or spec.loader is None:
        raise MissingExtra("the stop words cannot be read", where=str(path), do="pip install --force-reinstall bm25s")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_parts(identifier: re.Match[str]) -> str:
    parts = _PARTS.findall(identifier[0])
    return " ".join((identifier[0], *parts)) if len(parts) > 1 else identifier[0]


def _split_spaceless(word: str, spaceless: re.Pattern[str]) -> Iterator[str]:
    position = 0
    for run in spaceless.finditer(word):
        if run.start() > position:
            yield word[position : run.start()]
        letters = _letters(run[0])
        yield from ("".join(letters[i : i + 2]) for i in range(max(len(letters) - 1, 1)))
        position = run.end()
    if position < len(word):
        yield word[position:]


def _letters_in(text: str, runs: re.Pattern[str]) -> int:
    return sum(sum(map(str.isalpha, run)) for run in runs.findall(text))


def _letters(run: str) -> list[str]:
    """The characters, each with the marks on it."""
    starts = [at for at, character in enumerate(run) if not at or not _is_mark(character)]
    return [run[begin:end] for begin, end in pairwise([*starts, len(run)])]


@functools.lru_cache(maxsize=256)
def _words_with_marks(blocks: tuple[int, ...]) -> re.Pattern[str]:
    """Words with the marks on their letters; `\\w+` alone would cut Hindi or Tamil words at every vowel sign."""
    marks = [chr(c) for block in blocks for c in range(block * BLOCK, (block + 1) * BLOCK) if _is_mark(chr(c))]
    return re.compile(rf"\w[\w{''.join(marks)}]*")


def _blocks_of_marks(text: str) -> tuple[int, ...]:
    """The blocks of characters that the combining marks in `text` belong to: few, so that patterns can be cached.

    Variation selectors, which are beyond 0x20000, do not count.
    """
    return tuple(sorted({ord(c) // BLOCK for c in set(text) if "\u0300" <= c < "\U00020000" and _is_mark(c)}))


@functools.cache
def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")
