"""A small encoder of a harness as the product's own steps ask one: texts in, vectors out.

source = EncoderSource(Served(trained(world, ...), world), dict(enumerate(...)))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.protocols import Similarity
from diptych.types import Floats
from diptych_training.data.mining import SearchResult
from effects.tiny import Encoder
from effects.world import World


class Served:
    """A `DenseEncoder`, compared by cosine.

    Args:
        model: that embeds tokens.
        world: whose texts and words are known; of another text, a word that is none of them is left out.
    """

    similarity: Similarity = "cosine"

    def __init__(self, model: Encoder, world: World) -> None:
        self.model, self.places = model, {word: place for place, word in enumerate(world.words)}
        sides = ((world.queries, world.query_tokens), (world.documents, world.document_tokens))
        self.known = {text: row[row > 0] for texts, tokens in sides for text, row in zip(texts, tokens, strict=True)}
        self.dimension = len(self.encode_query([world.queries[0]])[0])

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]`."""
        rows = [self.known[text] if text in self.known else _row(text, self.places) for text in inputs]
        return np.asarray(self.model.embedded(_padded(rows)).numpy(), np.float32)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """As queries."""
        return self.encode_query(inputs)


class EncoderSource:
    """The documents of a mapping, ranked by all their cosines; a `CandidateSource`. Ties stay in the documents' order.

    Args:
        encoder: dense; its vectors are compared at unit length.
        documents: text by id.
    """

    def __init__(self, encoder: Any, documents: Mapping[str, str]) -> None:
        self._encoder, self._documents, self._ids = encoder, documents, list(documents)
        self._places = {identifier: place for place, identifier in enumerate(self._ids)}
        self._vectors = _unit(encoder.encode_document(list(documents.values())))

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        """As `CandidateSource`."""
        scores = _unit(self._encoder.encode_query(queries)) @ self._vectors.T
        best = [np.lexsort((np.arange(len(row)), -row))[:depth] for row in scores]
        return [
            SearchResult(
                [(self._ids[place], float(row[place])) for place in places],
                {name: float(row[self._places[name]]) for name in names},
            )
            for row, places, names in zip(scores, best, named, strict=True)
        ]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """As `CandidateSource`."""
        return {identifier: self._documents[identifier] for identifier in ids}


def _unit(vectors: Floats) -> Floats:
    rows = np.asarray(vectors, np.float32)
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return unit


def source_of(model: Encoder, world: World) -> EncoderSource:
    """What the model finds among all documents of the world, under the names `d12`."""
    return EncoderSource(Served(model, world), {f"d{place}": text for place, text in enumerate(world.documents)})


def tokens_of(texts: Sequence[str], places: dict[str, int]) -> Tensor:
    """The words of texts by their places, int64 `[n, longest]`, 0 where there is none."""
    return _padded([_row(text, places) for text in texts])


def _row(text: str, places: dict[str, int]) -> Tensor:
    return torch.tensor([places[word] for word in text.split() if word in places])


def _padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
