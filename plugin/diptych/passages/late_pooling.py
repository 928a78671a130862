"""Late pooling: passages as means of token vectors that were made in one pass over a long stretch of the document.

Guenther et al., "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models", 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from diptych.passages.document_splitter import SplitDocument
from diptych.protocols import TokenVectors
from diptych.types import Floats


def late_pooled(inner: TokenVectors, documents: Sequence[SplitDocument], most: int | None) -> list[Floats]:
    """The passages' vectors of each document, `[passages_i, dimension]`.

    A document that is longer than the encoder reads is read in stretches of whole passages, the title before each.

    Args:
        inner: the encoder.
        documents: with their passages.
        most: tokens that the encoder reads, None for all.
    """
    stretches = [[*_stretches(document, most)] for document in documents]
    texts = [_text(document, own) for document, each in zip(documents, stretches, strict=True) for own in each]
    vectors = iter(inner.token_vectors(texts) if texts else ())
    return [
        np.concatenate([_means(document, own, next(vectors)) for own in each])
        for document, each in zip(documents, stretches, strict=True)
    ]


def _stretches(document: SplitDocument, most: int | None) -> Iterator[tuple[int, int]]:
    """First and last passage of each stretch."""
    begin, room = 0, None if most is None else most - document.title_tokens
    for n in range(1, len(document.places)):
        first, last = document.places[begin][0], document.places[n][1]
        if room is not None and _count(document, first, last) > room:
            yield begin, n
            begin = n
    yield begin, len(document.places)


def _text(document: SplitDocument, stretch: tuple[int, int]) -> str:
    text = document.text[document.places[stretch[0]][0] : document.places[stretch[1] - 1][1]]
    return " ".join(filter(None, (document.title, text)))


def _means(document: SplitDocument, stretch: tuple[int, int], vectors: Floats) -> Floats:
    """The mean of each passage's token vectors; those of the title come first, and are left out."""
    first = document.places[stretch[0]][0]
    offset = len(vectors) - _count(document, first, document.places[stretch[1] - 1][1])
    rows = []
    for begin, end in document.places[stretch[0] : stretch[1]]:
        start = max(0, offset) + _count(document, first, begin)
        own = vectors[start : start + max(1, _count(document, begin, end))]
        rows.append((own if len(own) else vectors[-1:]).mean(axis=0))
    return np.stack(rows).astype(np.float32)


def _count(document: SplitDocument, begin: int, end: int) -> int:
    """Tokens between two places of the text."""
    starts = document.spans[:, 0]
    return int(np.searchsorted(starts, end) - np.searchsorted(starts, begin))
