"""The order of documents in a run, the same for every measure, library and machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeAlias

from diptych.errors import EvaluationError

Ranking: TypeAlias = Sequence[tuple[str, float]]  # (document id, score), best first


def ordered(ranking: Ranking, *, where: str, greatest_first: bool = True) -> list[str]:
    """Document ids, best first: the ranking's own order, but neighbours of one score by id, the greatest first.

    That is trec_eval's rule for ties; MS MARCO's script has the least first. Scores that rise are left alone: a stage
    such as MMR ranks by something else than the score it shows.

    Raises:
        EvaluationError: a document comes twice, or a score is NaN.
    """
    _check(ranking, where)
    groups = itertools.groupby(ranking, key=lambda pair: pair[1])
    return [document for _, group in groups for document, _ in sorted(group, reverse=greatest_first)]


def rank_scores(documents: Sequence[str]) -> dict[str, float]:
    """Scores that express only the order, so that no provider's tie rule or rounding changes it."""
    return {document: float(len(documents) - rank) for rank, document in enumerate(documents)}


def _check(ranking: Ranking, where: str) -> None:
    seen: set[str] = set()
    for rank, (document, score) in enumerate(ranking, 1):
        if document in seen:
            raise EvaluationError(
                f"document {document!r} appears twice in a ranking",
                where=f"{where}, rank {rank}",
                do="rank each document once; with several chunks a document, keep its best one",
            )
        if math.isnan(score):
            raise EvaluationError(f"the score of document {document!r} is not a number", where=f"{where}, rank {rank}")
        seen.add(document)
