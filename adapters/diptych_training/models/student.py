"""Students of an encoder before they are trained: its first layers, or a table of token vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

from diptych.errors import ConfigError
from diptych.types import Floats
from diptych_training.models.layers import layers_of, truncated

COMMON = 1e-3  # share of all tokens at which a token counts half


def first_layers(model: Any, layers: int) -> Any:
    """The model with its first layers only, in place.

    Raises:
        ConfigError: it has no more than that.
    """
    depth = len(layers_of(model[0].auto_model))
    if layers >= depth:
        raise ConfigError(
            "the student is not smaller than the model",
            where="student.layers",
            got=layers,
            expected=f"1 to {depth - 1}: the model has {depth} layers",
        )
    model[0] = truncated(model[0], layers)
    return model


def static_student(model: Any, encode: Callable[[Sequence[str]], Sequence[Any]], texts: Iterable[str]) -> Any:
    """A mean of token vectors, of unit length: each token's is what `encode` makes of the token alone.

    Frequent tokens begin shorter, by the smoothed inverse frequency of Arora, Liang, Ma, "A Simple but Tough-to-Beat
    Baseline for Sentence Embeddings", ICLR 2017.

    Args:
        model: whose tokenizer is used.
        encode: the teacher's encoding of queries.
        texts: whose frequencies count.

    Raises:
        ConfigError: the model has no fast tokenizer.
    """
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        got = type(model.tokenizer).__name__
        raise ConfigError("a static student needs a fast tokenizer", where="model", got=got, do="use kind: layers")
    tokens = [tokenizer.decode([number]) or " " for number in range(tokenizer.get_vocab_size())]
    rows = np.stack([np.asarray(vector, np.float32) for vector in encode(tokens)])
    rows = rows * _weights(tokenizer, texts, len(tokens))[:, None]
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=rows), Normalize()], device="cpu")


def _weights(tokenizer: Any, texts: Iterable[str], size: int) -> Floats:
    """A weight for each token, float32 `[size]`."""
    read = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    counts = Counter(number for own in read for number in own.ids)
    shares = np.array([counts[number] for number in range(size)], np.float32) / max(1, counts.total())
    return np.asarray(COMMON / (COMMON + shares), np.float32)
