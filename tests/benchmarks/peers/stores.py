"""What the peers with a store share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

NAME, PIECE = "measured", 1000


def identifier(number: int) -> str:
    """A point id for a document, as the frameworks want one."""
    return str(uuid.UUID(int=number + 1))


def pieces(texts: Sequence[str], vectors: Any) -> Iterator[list[tuple[int, str, list[float]]]]:
    """Number, text and vector of the points, in lists of a thousand."""
    for first in range(0, len(vectors), PIECE):
        rows = vectors[first : first + PIECE].tolist()
        yield [(number, texts[number % len(texts)], row) for number, row in enumerate(rows, first)]
