"""What a teacher says about the documents of each row, for losses that distil it.

Scores come in the label column, float `[B, 1 + H]`: of the row's positive and each of its negatives. Any reranker gives
them: `scored` asks one for the rows of a data set, once, before training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diptych import Reranker
from diptych.errors import ContractError
from diptych.types import Floats


def scored(teacher: Reranker, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Floats:
    """The teacher's scores float32 `[B, C]` of each query's C documents, all pairs in one call.

    Raises:
        ContractError: rows of different lengths.
    """
    lengths = {len(own) for own in documents}
    if len(lengths) > 1 or len(queries) != len(documents):
        got = f"{len(queries)} queries, rows of {sorted(lengths)} documents"
        raise ContractError("a teacher is asked for rows of different lengths", where="scored", got=got)
    pairs = [(query, text) for query, own in zip(queries, documents, strict=True) for text in own]
    return np.asarray(teacher.predict(pairs), np.float32).reshape(len(queries), -1)


def teacher_scores(labels: Tensor | None, rows: int, columns: int, *, where: str) -> Tensor:
    """The label column as scores of a teacher, float32 `[rows, columns]`.

    Raises:
        ContractError: it is none.
    """
    fits = labels is not None and labels.is_floating_point() and tuple(labels.shape) == (rows, columns)
    if labels is None or not fits:
        got = "no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ContractError(
            "labels are no scores of a teacher",
            where=where,
            got=got,
            expected=f"float [{rows}, {columns}]: of the positive and each negative",
            do="score the data set once: diptych_training.teaching.scored(reranker, queries, documents)",
        )
    return labels.detach().float()


def own_scores(queries: Tensor, documents: Tensor, columns: int) -> Tensor:
    """Similarities `[B, columns]` of each query with the documents of its own row.

    Args:
        queries: `[B, D]`.
        documents: `[B * columns, D]`, column after column.
    """
    return torch.einsum("bd,cbd->bc", queries, documents.reshape(columns, len(queries), -1))
