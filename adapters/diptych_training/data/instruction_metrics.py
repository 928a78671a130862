"""How well a model follows instructions: p-MRR, and how often two documents change places.

Weller et al., "FollowIR: Evaluating and Teaching Information Retrieval Models to Follow Instructions", NAACL 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import EvaluationError
from diptych.evaluate.instructions import rank_change


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
        raise EvaluationError("these are no ranks of the same documents", where="p_mrr", got=got, expected="from 1")
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
