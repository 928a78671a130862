"""Measures during training whether a model follows instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych_training.data.dual_view import View
from diptych_training.data.instruction_metrics import flip_accuracy, p_mrr
from diptych_training.running.evaluation import HeldOut


class InstructionEvaluator(HeldOut):
    """Beside the search of both views: flip accuracy, and p-MRR of the documents that the second view makes irrelevant.

    Args:
        inner: the search, an evaluator of sentence-transformers.
        views: in pairs, as `dual_views` gives them.
        documents: text by id; ranks are among all of them.
    """

    def __init__(self, inner: Any, views: Sequence[View], documents: Mapping[str, str]) -> None:
        super().__init__(inner)
        self.views, self.documents = views, {name: text for name, text in documents.items() if text}

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure."""
        return {**super().measured(model), **following(model, self.views, self.documents)}


def following(model: Any, views: Sequence[View], documents: Mapping[str, str]) -> dict[str, float]:
    """`flip accuracy` over all views, and `p-MRR` over their pairs.

    Args:
        model: of sentence-transformers, dense.
        views: in pairs, the original first.
        documents: text by id.
    """
    place = {name: number for number, name in enumerate(documents)}
    document_vectors = model.encode_document(list(documents.values()), convert_to_tensor=True, show_progress_bar=False)
    query_vectors = model.encode_query([view.text for view in views], convert_to_tensor=True, show_progress_bar=False)
    scores = model.similarity(query_vectors, document_vectors).double().cpu().numpy()
    rows = np.arange(len(views))
    relevant = scores[rows, [place[view.positive] for view in views]]
    other = scores[rows, [place[view.negatives[0]] for view in views]]
    ranks = [[_rank(scores[row], place[view.positive]) for row in (first, first + 1)] for first, view in _firsts(views)]
    return {
        "flip accuracy": flip_accuracy(relevant, other),
        "p-MRR": p_mrr([before for before, _ in ranks], [after for _, after in ranks]),
    }


def _firsts(views: Sequence[View]) -> list[tuple[int, View]]:
    return [(row, views[row]) for row in range(0, len(views), 2)]


def _rank(scores: np.ndarray, place: int) -> int:
    """The rank from 1; among equal scores the last."""
    return int((scores >= scores[place]).sum())
