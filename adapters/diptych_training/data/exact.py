"""What a model that is in no collection yet finds: exact search in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

BLOCK = 1024  # queries a product


def nearest(
    model: Any, queries: Mapping[str, str], documents: Mapping[str, str], depth: int, *, batch_size: int = 64
) -> dict[str, list[tuple[str, float]]]:
    """The best documents of each query with their scores, the best first.

    Args:
        model: dense or sparse, of sentence-transformers.
        queries, documents: texts by id; documents without text are not found.
        depth: how many a query.
        batch_size: of encoding.
    """
    names = [name for name, text in documents.items() if text]
    held = _encoded(model.encode_document, [documents[name] for name in names], batch_size)
    found: dict[str, list[tuple[str, float]]] = {}
    for start in range(0, len(queries), BLOCK):
        part = list(queries)[start : start + BLOCK]
        asked = _encoded(model.encode_query, [queries[query] for query in part], batch_size)
        scores = model.similarity(asked, held)  # of a lexicon's sparse rows, which cannot be sliced, dense ones
        values, places = scores.topk(min(depth, len(names)), dim=1)
        for query, own, which in zip(part, values.tolist(), places.tolist(), strict=True):
            found[query] = [(names[place], value) for place, value in zip(which, own, strict=True)]
    return found


def _encoded(encode: Any, texts: Sequence[str], batch_size: int) -> torch.Tensor:
    encoded: torch.Tensor = encode(texts, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
    return encoded
