"""A teacher's scores of each row's documents, for losses that distil it.

Scores come in the label column, float `[B, 1 + H]`: of the row's positive and each of its negatives. Any reranker gives
them: `scored` asks one for the rows of a data set, once, before training; a `LiveTeacher` is asked during training, by
the ids of each batch (see `diptych_training.losses.OnlineDistillationLoss`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sentence_transformers.util import maxsim_pairwise
from torch import Tensor

from diptych import Reranker
from diptych.errors import ContractError
from diptych.types import Floats

EXACT = 2**24  # up to here float32 holds every integer


def scored(teacher: Reranker, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Floats:
    """The teacher's scores float32 `[B, C]` of each query's C documents, all pairs in one call.

    Raises:
        ContractError: rows of different lengths.
    """
    lengths = {len(texts) for texts in documents}
    if len(lengths) > 1 or len(queries) != len(documents):
        got = f"{len(queries)} queries, rows of {sorted(lengths)} documents"
        raise ContractError("the rows for the teacher differ in length", where="scored", got=got)
    pairs = [(query, text) for query, texts in zip(queries, documents, strict=True) for text in texts]
    return np.asarray(teacher.predict(pairs), np.float32).reshape(len(queries), -1)


class LiveTeacher:
    """A reranker's scores of the pairs of a batch, by their ids; each pair is scored once.

    Args:
        reranker: any that the registry makes, or that has `predict`.
        queries, documents: the text of each id, which is its place.
        known: scores that are stored already, by (query id, document id).
    """

    def __init__(
        self,
        reranker: Reranker,
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        known: Mapping[tuple[int, int], float] | None = None,
    ) -> None:
        self.reranker, self.queries, self.documents = reranker, queries, documents
        self.known = dict(known or {})

    def __call__(self, ids: Tensor) -> Tensor:
        """Scores float32 `[B, C]` of the C documents of each row of ids `[B, 1 + C]`: query, then documents.

        Raises:
            ContractError: an id has no text.
        """
        pairs = [[(row[0], document) for document in row[1:]] for row in ids.tolist()]
        self._ask([pair for row in pairs for pair in row if pair not in self.known])
        return torch.tensor([[self.known[pair] for pair in row] for row in pairs], dtype=torch.float32)

    def forget(self) -> None:
        """Drop all scores, because the reranker has been trained meanwhile."""
        self.known.clear()

    def _ask(self, pairs: Sequence[tuple[int, int]]) -> None:
        if not pairs:
            return
        new = list(dict.fromkeys(pairs))
        for sort, ids, texts in zip(
            ("query", "document"), zip(*new, strict=True), (self.queries, self.documents), strict=True
        ):
            if not 0 <= min(ids) <= max(ids) < len(texts):
                got = f"{sort} ids from {min(ids)} to {max(ids)}"
                raise ContractError(
                    "the teacher does not have these texts",
                    where="LiveTeacher",
                    got=got,
                    expected=f"0 to {len(texts) - 1}: places in its texts",
                )
        scores = self.reranker.predict([(self.queries[query], self.documents[document]) for query, document in new])
        self.known |= dict(zip(new, np.asarray(scores, np.float64).tolist(), strict=True))


def teacher_scores(labels: Tensor | None, rows: int, columns: int, *, where: str) -> Tensor:
    """The label column as a teacher's scores, float32 `[rows, columns]`.

    Raises:
        ContractError: it has another type or shape.
    """
    fits = labels is not None and labels.is_floating_point() and tuple(labels.shape) == (rows, columns)
    if labels is None or not fits:
        got = "no labels" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ContractError(
            "labels are not a teacher's scores",
            where=where,
            got=got,
            expected=f"float [{rows}, {columns}]: of the positive and each negative",
            do="score the data set once: diptych_training.teacher_scores.scored(reranker, queries, documents)",
        )
    return labels.detach().float()


def own_scores(queries: Tensor, documents: Tensor, columns: int) -> Tensor:
    """Similarities `[B, columns]` of each query with the documents of its own row.

    Args:
        queries: `[B, D]`, or of tokens `[B, T, D]`.
        documents: `[B * columns, D]`, or of tokens, column after column.
    """
    if queries.ndim == 3:
        parts = documents.reshape(columns, *queries.shape[:1], *documents.shape[1:])
        return torch.stack([_of_tokens(queries, part) for part in parts], 1)
    return torch.einsum("bd,cbd->bc", queries, documents.reshape(columns, len(queries), -1))


def _of_tokens(queries: Tensor, documents: Tensor) -> Tensor:
    """The similarity `[B]` of each query with its own document, of tokens; see `losses.common.base.similarities`."""
    query_mask, document_mask = queries.any(-1), documents.any(-1)
    similarity: Tensor = maxsim_pairwise(
        queries, documents, a_mask=query_mask, b_mask=document_mask, length_normalize=True
    )
    return similarity


def labels_of(ids: Sequence[int], scores: Sequence[float]) -> list[float]:
    """The label of a row: `2 + H` ids, those of an unlabelled row -1, and `1 + H` scores of the teacher.

    Raises:
        ContractError: lengths that do not fit, or ids above 16,777,216, which a float does not hold.
    """
    if len(ids) != len(scores) + 1:
        got = f"{len(ids)} ids, {len(scores)} scores"
        raise ContractError(
            "ids and scores are of different rows", where="labels_of", got=got, expected="2 + H and 1 + H"
        )
    if max(ids) > EXACT:
        raise ContractError("an id is too large for a label", where="labels_of", got=max(ids), expected=f"<= {EXACT}")
    return [*map(float, ids), *map(float, scores)]


def split_labels(
    labels: Tensor | None, rows: int, columns: int, *, where: str = "DualHeadLoss"
) -> tuple[Tensor, Tensor]:
    """The ids `[rows, 1 + columns]` and the scores `[rows, columns]` of a label column.

    Raises:
        ContractError: labels of another form.
    """
    shape = (rows, 2 * columns + 1)
    if labels is None or tuple(labels.shape) != shape:
        raise ContractError(
            "labels are not ids and scores",
            where=where,
            got="no labels" if labels is None else list(labels.shape),
            expected=f"float {list(shape)}: ids of the row, then the teacher's scores",
            do="make each label by diptych_training.teacher_scores.labels_of(ids, scores)",
        )
    return labels[:, : columns + 1].round().long(), labels[:, columns + 1 :].float()
