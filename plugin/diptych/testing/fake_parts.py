"""Shared by the fakes: words, their hashed vectors and ids, and a record of calls."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats

CallSide: TypeAlias = Literal["query", "document", "pair"]
_WORD = re.compile(r"\w+")


class FakeFailure(RuntimeError):
    """Raised by a fake on the call that it was configured to fail."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a fake: the side and the inputs; of a reranker's pairs, query and document joined by a tab."""

    side: CallSide
    inputs: tuple[str, ...]


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
