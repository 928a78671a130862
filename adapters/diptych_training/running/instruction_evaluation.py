"""Measures during training whether a model follows instructions: p-MRR, and how often two documents change places.

Weller et al., "FollowIR: Evaluating and Teaching Information Retrieval Models to Follow Instructions", NAACL 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import EvaluationError
from diptych.evaluate.instructions import rank_change
from diptych_training.data.dual_view import TrainingView
from diptych_training.running.evaluation import HeldOutEvaluator


class InstructionEvaluator(HeldOutEvaluator):
    """Beside the search of both views: flip accuracy, and p-MRR of the documents that the second view makes irrelevant.

    Args:
        inner: the search, an evaluator of sentence-transformers.
        views: in pairs, as `dual_views` gives them.
        documents: text by id; ranks are among all of them.
    """

    def __init__(self, inner: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> None:
        super().__init__(inner)
        self.views, self.documents = views, {name: text for name, text in documents.items() if text}

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure."""
        return {**super().measured(model), **instruction_measures(model, self.views, self.documents)}


def instruction_measures(model: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> dict[str, float]:
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


def _firsts(views: Sequence[TrainingView]) -> list[tuple[int, TrainingView]]:
    return [(row, views[row]) for row in range(0, len(views), 2)]


def _rank(scores: np.ndarray, place: int) -> int:
    """The rank from 1; among equal scores the last."""
    return int((scores >= scores[place]).sum())


def p_mrr(before: Sequence[int], after: Sequence[int]) -> float:
    """The mean over documents that a changed instruction makes irrelevant; -1 to 1, 0 for a model that ignores it.

    The same over rankings and their judgements is `diptych.evaluate.p_mrr`.

    Args:
        before: ranks from 1 under the original instruction.
        after: ranks of the same documents under the changed one.

    Raises:
        EvaluationError: not as many ranks, none, or one below 1.
    """
    if len(before) != len(after) or not before or min(*before, *after) < 1:
        got = f"{len(before)} and {len(after)} ranks"
        raise EvaluationError("the ranks are not of the same documents", where="p_mrr", got=got, expected="from 1")
    return float(np.mean([rank_change(old, new) for old, new in zip(before, after, strict=True)]))


def flip_accuracy(relevant: ArrayLike, other: ArrayLike) -> float:
    """The share of views in which the relevant document scores higher; half of equal scores count.

    With both views of each pair, an encoder that ignores instructions has 0.5.

    Args:
        relevant: scores of the relevant document of each view `[n]`.
        other: scores of the sister's `[n]`.
    """
    right, wrong = np.asarray(relevant, np.float64), np.asarray(other, np.float64)
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))
