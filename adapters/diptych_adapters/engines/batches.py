"""Batches of inputs of similar length, so that there is hardly any padding, and the arrays that models get."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from diptych.protocols import Pair
from diptych.types import Floats

Inputs = Sequence[str] | Sequence[Pair]
CHUNK = 2048  # inputs that are sorted together; the next ones are tokenised meanwhile
FIRST = 256  # inputs that a GPU begins with, which would wait for the tokenizer: populate hands over 512 at once

_SPACES = {"▁", "Ġ"}  # space marks of sentencepiece and of byte pairs
_WORD = re.compile(r"[^\W\d_]+")
_ALPHABET = "LATIN"
_LEAST_PIECE = 3.5  # letters a token: docs/research/languages.md
Row: TypeAlias = NDArray[np.int64]  # [channels, tokens]: ids, and for pairs the text that each token is of

Answer = TypeVar("Answer")

CHANNELS = ("input_ids", "token_type_ids")
MASK = "attention_mask"
# Tokens of a batch, padding included. On a CPU, MiniLM takes 3 % more time with half, the same with twice as many.
TOKENS, LARGE = 2048, 32768  # on a CPU, on a GPU
NARROW = 0.8  # of a batch's longest row: shorter ones wait for the next batch, once this one has `FEW` rows
FEW = 8
VECTOR = 16  # tokens: OpenVINO's attention computes those beyond a multiple one by one, as measured with AVX-512
WASTE = 1 / 16  # of a batch's longest row, which may be added to come to a multiple


def batches(lengths: Sequence[int], tokens: int, max_rows: int | None = None) -> Iterator[list[int]]:
    """Rows in batches of so many tokens, at most `max_rows` rows each; too long rows come alone.

    The longest rows come first, so that a batch that does not fit into memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        size = max(1, min(tokens // max(1, longest), max_rows or tokens))
        rows = order[start : start + size]
        alike = sum(lengths[row] >= NARROW * longest for row in rows)
        rows = rows[: max(alike, FEW)]
        yield rows
        start += len(rows)


def padded(rows: Sequence[Row], pad: int, *, width: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows padded to one length: ids with `pad`, int64 `[channels, n, tokens]`, and the mask, int64 `[n, tokens]`.

    Args:
        rows: of ids, `[channels, tokens_i]`.
        pad: the padding id.
        width: the least length to pad to.
    """
    width = max(width, max(row.shape[1] for row in rows))
    inputs = np.zeros((rows[0].shape[0], len(rows), width), np.int64)
    inputs[0] = pad
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        inputs[:, index, : row.shape[1]] = row
        mask[index, : row.shape[1]] = 1
    return inputs, mask


def whole_vectors(longest: int, max_tokens: int | None) -> int:
    """The padded length for attention in whole hardware vectors: slightly above the longest row's, or 0.

    So a batch may have a sixteenth more tokens.

    Args:
        longest: tokens of that row.
        max_tokens: tokens that the model reads of a text; a row with more might be one too long for it.
    """
    width = -(-longest // VECTOR) * VECTOR
    return width if width - longest <= WASTE * longest and width <= (max_tokens or 0) else 0


def input_names(*, typed: bool) -> tuple[str, ...]:
    """The inputs of a part, in the order of `SingleFeature.forward`; `typed` adds token types."""
    return (CHANNELS[0], MASK, *CHANNELS[1:]) if typed else (CHANNELS[0], MASK)


def feeds(names: Iterable[str], inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The arrays for these inputs; missing token types are 0."""
    arrays = {MASK: mask, **dict(zip(CHANNELS, inputs, strict=False))}
    arrays.setdefault(CHANNELS[1], np.zeros_like(mask))
    return {name: arrays[name] for name in names}


def by_length(inputs: Sequence[str], batch_size: int, encode: Callable[[list[str]], Iterable[Answer]]) -> list[Answer]:
    """The results of `encode` for each input; it receives the longest first, `batch_size` at a time.

    Like lengths together waste no padding; the longest first fail early when memory is short.
    """
    order = sorted(range(len(inputs)), key=lambda place: -len(inputs[place]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        answers.update(zip(batch, encode([inputs[index] for index in batch]), strict=True))
    return [answers[index] for index in range(len(inputs))]


def unit(vectors: Floats) -> Floats:
    """Rows of length 1, zero rows left alone; in float32, since a norm taken in bfloat16 is off by up to .4%."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class TokenizerData:
    """Everything needed from a fast transformers tokenizer to produce the same ids without that library.

    Args:
        text: the tokenizer as JSON.
        pad: the padding id.
        truncation_side: where a text that is too long is cut.
    """

    text: str
    pad: int
    truncation_side: str

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """From the library's tokenizer."""
        return cls(tokenizer.backend_tokenizer.to_str(), int(tokenizer.pad_token_id), str(tokenizer.truncation_side))


class Tokens:
    """Produces ids without padding, cut to `max_length` including special tokens; in a pair the longer text is cut.

    The tokenizer is a copy: padding and truncation are settings of a fast tokenizer, and others use the model's own.
    Threads may use one at once, and the work goes on outside Python's lock.

    Args:
        tokenizer: the model's, of transformers, or its `TokenizerData`.
        max_length: tokens that are read of a text, None for all.
        typed: the model is told which text of a pair a token is of.
    """

    def __init__(self, tokenizer: Any, max_length: int | None, *, typed: bool = False) -> None:
        self._typed, self.max_length = typed, max_length
        self.data = tokenizer if isinstance(tokenizer, TokenizerData) else TokenizerData.of(tokenizer)
        self.pad = self.data.pad
        self._tokenizer = Tokenizer.from_str(self.data.text)
        self._tokenizer.no_padding()
        if max_length is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_length, strategy="longest_first", direction=self.data.truncation_side)

    def rows(self, inputs: Sequence[str] | Sequence[Pair], prompt: str = "") -> list[Row]:
        """The ids of each text or pair, with `prompt` before each text."""
        texts = [prompt + item if isinstance(item, str) else item for item in inputs]
        encodings = self._tokenizer.encode_batch_fast(texts)
        if self._typed:
            return [np.array([item.ids, item.type_ids], np.int64) for item in encodings]
        return [np.array([item.ids], np.int64) for item in encodings]


class DocumentTokens:
    """Finds the tokens of documents, nothing cut; for encoders with `diptych.protocols.TokenLimit`.

    The tokenizer is a copy, as in `Tokens`: threads may use one at once, also while documents are encoded.

    Args:
        tokenizer: as JSON.
        prompt: stands before each document, and may change how its first word is read.
        special: the model adds special tokens.
    """

    def __init__(self, tokenizer: str, prompt: str = "", *, special: bool = True) -> None:
        self._tokenizer, self._prompt = Tokenizer.from_str(tokenizer), prompt
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._added = self._tokenizer.num_special_tokens_to_add(is_pair=False) if special else 0
        before = self._tokenizer.encode(prompt + "a", add_special_tokens=False).offsets if prompt else []
        self._added += sum(end <= len(prompt) for _, end in before)

    def room(self, max_length: int | None) -> int | None:
        """The tokens of a document that are read if the model reads `max_length`, special ones and prompt included."""
        return None if max_length is None else max(0, max_length - self._added)

    @property
    def special_after(self) -> int:
        """The special tokens that stand after a document."""
        mask = self._tokenizer.encode("a").special_tokens_mask
        return mask[::-1].index(0) if 0 in mask else 0

    def spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Begin and end of each document's tokens in characters, int32 `[tokens_i, 2]`."""
        texts = [self._prompt + text for text in inputs]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        length = np.int32(len(self._prompt))
        whole = [np.array(encoding.offsets, np.int32).reshape(-1, 2) for encoding in encodings]
        return [np.maximum(spans - length, 0)[spans[:, 1] > length] if length else spans for spans in whole]


def unread_share(folders: Iterable[Path], inputs: Sequence[str]) -> float:
    """The share of the letters of `inputs` that a tokenizer leaves unknown or reads in small pieces, 0 to 1.

    Small are a single letter, and the pieces of a word in Latin letters that has fewer than 3.5 letters a token: so a
    tokenizer reads most words of a language that its model does not know. A letter counts as read if it is a word of
    its own, or if its script writes words with one or two letters.

    Args:
        folders: searched in turn for a `tokenizer.json`; the result is 0 if none has one.
    """
    path = next((own for folder in folders if (own := folder / "tokenizer.json").is_file()), None)
    if path is None:
        return 0.0
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = getattr(tokenizer.model, "unk_token", None)
    letters = unread = 0
    for text, encoding in zip(inputs, tokenizer.encode_batch(list(inputs), add_special_tokens=False), strict=True):
        letters += sum(map(str.isalpha, text))
        unread += len(_unread_places(text, encoding, unknown) | _broken_places(text, encoding))
    return unread / letters if letters else 0.0


def _unread_places(text: str, encoding: Any, unknown: str | None) -> set[int]:
    """Places of letters that are unknown, that a token reads alone inside a word, or that several tokens share."""
    tokens_of_word, tokens_of_letter = Counter(encoding.word_ids), Counter[int]()
    unread: set[int] = set()
    for token, (start, end), word in zip(encoding.tokens, encoding.offsets, encoding.word_ids, strict=True):
        if token in _SPACES:
            continue
        if end - start == 1:
            tokens_of_letter[start] += 1
            # A Chinese character or a Korean syllable is often a whole word or an ending.
            writes_words = unicodedata.name(text[start], "").startswith(("CJK", "HANGUL"))
            is_alone = tokens_of_word[word] > 1 and not writes_words
        else:
            is_alone = False
        if token == unknown or is_alone:
            unread.update(range(start, end))
    unread.update(place for place, count in tokens_of_letter.items() if count > 1)
    return {place for place in unread if text[place].isalpha()}


def _broken_places(text: str, encoding: Any) -> set[int]:
    """Places of the words in Latin letters that are read in several small tokens."""
    words = np.array([match.span() for match in _WORD.finditer(text)], np.int64).reshape(-1, 2)
    named = zip(encoding.tokens, encoding.offsets, strict=True)
    spans = [(start, end) for token, (start, end) in named if end > start and token not in _SPACES]
    begins, ends = np.array(spans, np.int64).reshape(-1, 2).T
    tokens = np.searchsorted(begins, words[:, 1]) - np.searchsorted(ends, words[:, 0], side="right")
    is_broken = (tokens > 1) & (words[:, 1] - words[:, 0] < _LEAST_PIECE * tokens)
    return {
        place
        for start, end in words[is_broken].tolist()
        if all(unicodedata.name(letter, "").startswith(_ALPHABET) for letter in text[start:end])
        for place in range(start, end)
    }


class Graph(Protocol):
    """A model as a function of token ids and attention mask; threads may call it at once."""

    @property
    def numerics(self) -> str:
        """Backend, precision and device, as in a fingerprint."""
        ...

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """The answer for each of n rows, float32 `[n, ...]`.

        Args:
            inputs: int64 `[channels, n, tokens]`, ids first; see `Tokens`.
            mask: int64 `[n, tokens]`, 0 where a row is filled up.
        """
        ...


class Runner:
    """Runs a graph. Threads may use one at once: a query does not wait for documents being encoded.

    Args:
        tokens: makes the ids.
        graph: makes answers of ids.
        max_rows: rows of a batch; None for as many as its tokens allow.
    """

    def __init__(self, tokens: Tokens, graph: Graph, *, max_rows: int | None = None) -> None:
        self.tokens, self.graph, self._max_rows = tokens, graph, max_rows
        on_cpu = graph.numerics.endswith("cpu")
        self._batch_tokens, self._first = (TOKENS, CHUNK) if on_cpu else (LARGE, FIRST)
        self._in_vectors = graph.numerics.startswith("openvino")

    def encode(self, inputs: Inputs, prompt: str = "") -> Floats:
        """The graph's answers for texts with the prompt in front; float32 `[n, ...]`, n at least 1."""
        return np.stack(self.each(inputs, lambda answer, row: answer, prompt))

    def token_vectors(self, inputs: Inputs, prompt: str = "") -> list[tuple[Floats, Row]]:
        """For a graph with token outputs: each text's vectors, float32 `[tokens_i, width]`, and its ids."""
        return self.each(inputs, lambda answer, row: (answer[: row.shape[1]].copy(), row), prompt)

    def each(self, inputs: Inputs, finish: Callable[[Floats, Row], Answer], prompt: str = "") -> list[Answer]:
        """The results of `finish` for each input's answer and ids. It must copy what it keeps of a large answer."""
        results: list[Answer] = []
        for rows in self._tokenised(inputs, prompt):
            by_row: dict[int, Answer] = {}
            for indices, answers in self._run(rows):
                for index, answer in zip(indices, answers, strict=True):
                    by_row[index] = finish(answer, rows[index])
            results += [by_row[index] for index in range(len(rows))]
        return results

    def _tokenised(self, inputs: Inputs, prompt: str) -> Iterator[list[Row]]:
        """The ids of each chunk; the next chunk is tokenised while the caller works on one."""
        starts = [0, *range(self._first, len(inputs), CHUNK)]
        parts = [inputs[start:end] for start, end in pairwise([*starts, len(inputs)])] if len(inputs) else []
        if len(parts) <= 1:
            yield from (self.tokens.rows(part, prompt) for part in parts)
            return
        with ThreadPoolExecutor(1, "tokenise") as pool:
            pending = pool.submit(self.tokens.rows, parts[0], prompt)
            for following in parts[1:]:
                ready, pending = pending.result(), pool.submit(self.tokens.rows, following, prompt)
                yield ready
            yield pending.result()

    def _run(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Floats]]:
        for indices in batches([row.shape[1] for row in rows], self._batch_tokens, self._max_rows):
            longest = rows[indices[0]].shape[1]
            width = whole_vectors(longest, self.tokens.max_length) if self._in_vectors else 0
            yield indices, self.graph(*padded([rows[index] for index in indices], self.tokens.pad, width=width))
