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
class KeptTokenizer:
    """Everything needed from a fast transformers tokenizer to produce the same ids without that library.

    Args:
        text: the tokenizer as JSON.
        pad: the id that fills rows up.
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
        tokenizer: the model's, of transformers, or what was kept of it.
        max_length: tokens that are read of a text, None for all.
        typed: the model is told which text of a pair a token is of.
    """

    def __init__(self, tokenizer: Any, max_length: int | None, *, typed: bool = False) -> None:
        self._typed, self.max_length = typed, max_length
        self.kept = tokenizer if isinstance(tokenizer, KeptTokenizer) else KeptTokenizer.of(tokenizer)
        self.pad = self.kept.pad
        self._own = Tokenizer.from_str(self.kept.text)
        self._own.no_padding()
        if max_length is None:
            self._own.no_truncation()
        else:
            self._own.enable_truncation(max_length, strategy="longest_first", direction=self.kept.truncation_side)

    def rows(self, inputs: Sequence[str] | Sequence[Pair], prompt: str = "") -> list[Row]:
        """The ids of each text or pair, with `prompt` before each text."""
        given = [prompt + one if isinstance(one, str) else one for one in inputs]
        found = self._own.encode_batch_fast(given)
        if self._typed:
            return [np.array([one.ids, one.type_ids], np.int64) for one in found]
        return [np.array([one.ids], np.int64) for one in found]
