"""Says before a training how much of its documents the model does not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.training import Watcher, unread_warning
from diptych_adapters.engines.tokens import DocumentTokens


@dataclass(slots=True)  # not frozen: a protocol of attributes wants them settable
class _Reader:
    """A model that is trained, as an encoder with `diptych.protocols.TokenLimit`."""

    tokens: DocumentTokens
    max_tokens: int | None

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Where the tokens of each document are, nothing cut."""
        return self.tokens.spans(inputs)


def warn_unread(model: Any, documents: Sequence[str], watcher: Watcher) -> None:
    """Say it if more than a tenth of the tokens of a sample is unread.

    Args:
        model: of sentence-transformers; nothing is said of one that does not cut texts, or has no fast tokenizer.
        documents: of the training.
        watcher: is told.
    """
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    limit = getattr(model, "max_seq_length", None)
    if tokenizer is None or not isinstance(limit, int):
        return
    prompts = getattr(model, "prompts", None) or {}
    tokens = DocumentTokens(tokenizer.to_str(), prompts.get("document") or "")
    if sentence := unread_warning(_Reader(tokens, tokens.room(limit)), documents):
        watcher.say(sentence)
