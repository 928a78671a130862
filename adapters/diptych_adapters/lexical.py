"""Lexical adapters: BM25 over words or character n-grams, Qdrant's own text index, and how texts become words.

A word with a mistake shares most n-grams with the right one, while a stemmed word shares nothing. The n-grams of a word
are those of the word between two `_`, so that beginnings and ends count: `_mail_` has `_mai`, `mail` and `ail_`.
McNamee and Mayfield, "Character N-Gram Tokenization for European Language Text Retrieval", Information Retrieval 2004,
take 4 as the best length.

With `QdrantTextIndex` Qdrant indexes the text in the payload and ranks by BM25 with its own, always current document
frequencies and average length. Needs Qdrant 1.20 or Qdrant Edge 0.9; qdrant-client's local mode does it only for plain
words, without stemmer, stop words, folding or length limits. A word that the query repeats counts once.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diptych.errors import ContractError, MissingExtra
from diptych.protocols import Fingerprint, Statistics
from diptych.runtime.untrusted import stream_safe
from diptych.types import SparseVector
from diptych_adapters.model_options import (
    SPACELESS,
    UNSTEMMED,
    Bm25Options,
    Bm25Weights,
    LexiconOptions,
    NGramOptions,
    TextIndexOptions,
)

if TYPE_CHECKING:
    from qdrant_client import models

VERSION = 1  # raised when the same text and options would give other terms
STOP = -1
CACHED_WORDS = 100_000
_BATCH = 1024  # texts that are counted together
CACHED_NGRAMS = 1_000_000  # distinct ones whose ids are kept: English has some 200,000 of length 4
_LANGUAGES_WITHOUT_STOPWORDS = ("none", "armenian", "tamil", *SPACELESS)
_AT_QUERY_TIME = {"k1", "b", "memory"}
CODE = 0.06  # names of program code for each word: .14 in Python's standard library, at most .043 in prose and manuals
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
        # The blocks of characters that combining marks belong to: few, so that patterns can be cached. Variation
        # selectors, which are beyond 0x20000, do not count.
        marked = {ord(c) // BLOCK for c in set(text) if "\u0300" <= c < "\U00020000" and _is_mark(c)}
        marks = tuple(sorted(marked))
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
        marked = run[0]  # its letters are characters with the marks on them
        starts = [at for at, character in enumerate(marked) if not at or not _is_mark(character)]
        letters = [marked[begin:end] for begin, end in pairwise([*starts, len(marked)])]
        yield from ("".join(letters[i : i + 2]) for i in range(max(len(letters) - 1, 1)))
        position = run.end()
    if position < len(word):
        yield word[position:]


def _letters_in(text: str, runs: re.Pattern[str]) -> int:
    return sum(sum(map(str.isalpha, run)) for run in runs.findall(text))


@functools.lru_cache(maxsize=256)
def _words_with_marks(blocks: tuple[int, ...]) -> re.Pattern[str]:
    """Words with the marks on their letters; `\\w+` alone would cut Hindi or Tamil words at every vowel sign."""
    marks = [chr(c) for block in blocks for c in range(block * BLOCK, (block + 1) * BLOCK) if _is_mark(chr(c))]
    return re.compile(rf"\w[\w{''.join(marks)}]*")


@functools.cache
def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")


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
        text = json.dumps(["ngrams", VERSION, facts], sort_keys=True)
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


class _Splitter(Analyzer):
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
        ngrams: list[str] = []
        for word in super().words(text):
            if word not in self._of_words:
                bounded = f"_{word}_"
                parts = [bounded[i : i + n] for n in self._lengths for i in range(len(bounded) - n + 1)]
                self._of_words[word] = parts or [bounded]
            ngrams += self._of_words[word]
        return ngrams


class Bm25(Bm25Vectors):
    """BM25 weights over words; see `Bm25Options` for the options."""

    name = "bm25"

    def __init__(self, **options: Any) -> None:
        self.options = Bm25Options(**options)
        if self.options.compatible_with:
            lexicon = Lexicon(FastEmbedAnalyzer(self.options.language))
            super().__init__(self.options, lexicon, constant=self.options.average_length or self.usual_length)
        else:
            super().__init__(self.options, Lexicon(Analyzer(self.options)))

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
        text = json.dumps(["bm25", VERSION, facts], sort_keys=True, ensure_ascii=True)
        numerics = f"snowball {snowball_version()}"
        return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), numerics)

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of letters in scripts without spaces that this language does not cut, 0 to 1."""
        if self.options.language in UNSTEMMED:
            return 0.0
        return uncut_share(inputs, cuts_cjk=not self.options.compatible_with)

    def text_advice(self, inputs: Sequence[str]) -> str:
        """To index the parts of names where many words are names of program code; "" for other texts."""
        names, words = (sum(len(find(text)) for text in inputs) for find in (_IDENTIFIER.findall, str.split))
        if self.options.identifiers or self.options.compatible_with or names < max(3, CODE * words):
            return ""
        return (
            f"{names / words:.0%} of the words are names as in program code: identifiers: true also finds their parts"
        )


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


class QdrantTextIndex:
    """Parameters and queries of Qdrant's text index; see `TextIndexOptions` for the options.

    The index belongs to a payload field, so a query goes out with `using` set to that field's name.
    """

    def __init__(self, **options: Any) -> None:
        self.options = TextIndexOptions(**options)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what the index is built from; k1, b and memory can change without a new index."""
        facts = self.options.model_dump(exclude=_AT_QUERY_TIME)
        text = json.dumps(["qdrant-text-index", facts], sort_keys=True)
        return Fingerprint(hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def index_params(self) -> models.TextIndexParams:
        """The payload index, with scoring by BM25."""
        from qdrant_client import models

        options = self.options
        stopwords: models.StopwordsInterface | None = None
        if options.stopwords is None and options.language not in _LANGUAGES_WITHOUT_STOPWORDS:
            stopwords = models.Language(options.language)
        elif words := sorted({word.lower() for word in options.stopwords or ()}):
            stopwords = models.StopwordsSet(custom=words)
        stemmer = None
        if options.language not in ("none", *SPACELESS):
            language = models.SnowballLanguage(options.language)
            stemmer = models.SnowballParams(type=models.Snowball.SNOWBALL, language=language)
        return models.TextIndexParams(
            type=models.TextIndexType.TEXT,
            tokenizer=models.TokenizerType(options.tokenizer),
            lowercase=True,
            ascii_folding=options.ascii_folding or None,
            min_token_len=options.min_token_length,
            max_token_len=options.max_token_length,
            stopwords=stopwords,
            stemmer=stemmer,
            memory=models.Memory(options.memory) if options.memory else None,
            scoring=models.TextScoringParams(type=models.TextScoringType.BM25),
        )

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of letters in scripts without spaces, 0 to 1, if the tokenizer does not cut these."""
        return 0.0 if self.options.tokenizer == "multilingual" else uncut_share(inputs, cuts_cjk=False)

    def query(self, text: str) -> models.TextQuery:
        """A query for `text`; the caller names the payload field with `using`."""
        from qdrant_client import models

        scoring = models.Bm25Scoring(bm25=models.Bm25Params(k=self.options.k1, b=self.options.b))
        return models.TextQuery(text=models.TextQueryInput(query=text, scoring=scoring))
