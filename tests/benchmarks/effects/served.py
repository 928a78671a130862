"""A small encoder of a harness as the product's own steps ask one: texts in, vectors out.

source = EncoderSource(Served(trained(world, ...), world), dict(enumerate(...)))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diptych.protocols import Similarity
from diptych.types import Floats
from diptych_training.data.candidate_sources import EncoderSource
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
