"""`Tokens`: token ids of texts and pairs, by a private copy of a fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from diptych.protocols import Pair

Row: TypeAlias = NDArray[np.int64]  # [channels, tokens]: ids, and for pairs the text that each token is of


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
