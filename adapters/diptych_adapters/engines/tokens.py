"""`Tokens`: token ids of texts, by a fast tokenizer of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Ids = NDArray[np.int64]


class Tokens:
    """Gives ids without padding, cut to `max_length`, special tokens included.

    The tokenizer is a copy: padding and truncation are settings of a fast tokenizer, and others use the model's own.
    Threads may use one at once, and the work goes on outside Python's lock.

    Args:
        tokenizer: the model's, of transformers.
        max_length: tokens that are read of a text, None for all.
    """

    def __init__(self, tokenizer: Any, max_length: int | None) -> None:
        self._own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._own.no_padding()
        if max_length is None:
            self._own.no_truncation()
        else:
            self._own.enable_truncation(max_length, direction=tokenizer.truncation_side)

    def ids(self, texts: Sequence[str], prompt: str = "") -> list[Ids]:
        """The ids of each text, int64 `[tokens_i]`; `prompt` is put before each."""
        found = self._own.encode_batch_fast([prompt + text for text in texts])
        return [np.asarray(one.ids, np.int64) for one in found]
