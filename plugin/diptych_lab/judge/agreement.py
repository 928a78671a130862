"""The agreement of judges: Cohen's kappa, and the pairs that a second judge grades again.

Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement, 1960; with weights:
"Weighted kappa", Psychological Bulletin, 1968. 1 is perfect agreement, 0 is agreement by chance.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from diptych.errors import EvaluationError
from diptych.types import Query
from diptych_lab.judge.judgement_files import HIGHEST
from diptych_lab.judge.judgements import Grade, Judgements, Pair
from diptych_lab.judge.judging import Pooled

Weights: TypeAlias = Literal["none", "linear", "quadratic"]
_POWER: Mapping[Weights, int] = {"none": 0, "linear": 1, "quadratic": 2}


@dataclass(frozen=True, slots=True)
class Kappa:
    """The agreement of two judges on the pairs that both have graded.

    Args:
        judges: their names.
        pairs: how many both graded; skipped ones do not count.
        same: the share with equal grades.
        plain, linear, quadratic: Cohen's kappa in which disagreements count equally, by their size, by its square.
    """

    judges: tuple[str, str]
    pairs: int
    same: float
    plain: float
    linear: float
    quadratic: float


def kappa(first: Sequence[int], second: Sequence[int], *, weights: Weights = "quadratic") -> float:
    """Cohen's kappa of two lists of grades from 0 to 3; 1 if both gave the same grade to all.

    Raises:
        EvaluationError: the lists are empty or of different length.
    """
    if len(first) != len(second) or not first:
        got = f"{len(first)} and {len(second)} grades"
        raise EvaluationError(
            "no agreement can be computed", got=got, expected="two lists of the same length, not empty"
        )
    table = np.zeros((HIGHEST + 1, HIGHEST + 1))
    np.add.at(table, (np.array(first), np.array(second)), 1 / len(first))
    grades = np.arange(HIGHEST + 1)
    apart = np.abs(grades[:, None] - grades).astype(float)
    cost = (apart > 0).astype(float) if weights == "none" else apart ** _POWER[weights]
    by_chance = float((cost * np.outer(table.sum(axis=1), table.sum(axis=0))).sum())
    return 1.0 if by_chance == 0 else 1 - float((cost * table).sum()) / by_chance


def agreements(judgements: Judgements) -> list[Kappa]:
    """The agreement of every two judges, people or models, that have graded the same pairs."""
    names = sorted(judgements.grades)
    graded = (
        (first, second, common_grades(judgements.grades[first], judgements.grades[second]))
        for first, second in itertools.combinations(names, 2)
    )
    return [_kappa((first, second), *grades) for first, second, grades in graded if grades[0]]


def common_grades(ours: Mapping[Pair, Grade], theirs: Mapping[Pair, Grade]) -> tuple[list[int], list[int]]:
    """The grades of both judges for the pairs that both have graded."""
    both = [(a, b) for pair, a in ours.items() if a is not None and (b := theirs.get(pair)) is not None]
    return [a for a, _ in both], [b for _, b in both]


def _kappa(judges: tuple[str, str], first: list[int], second: list[int]) -> Kappa:
    same = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    plain, linear, quadratic = (kappa(first, second, weights=scheme) for scheme in ("none", "linear", "quadratic"))
    return Kappa(judges, len(first), same, plain, linear, quadratic)


class SecondJudging:
    """Draws pairs that people have graded for another judge, who does not see their grades.

    Args:
        judgements: with the grades of others.
        queries: the judged queries, with their texts.
        judge: who judges now.
        count: pairs to grade, those of earlier sessions included.
        seed: of the draw.

    `pairs` are those drawn, ids of query and document.
    """

    def __init__(
        self, judgements: Judgements, queries: Sequence[Query], *, judge: str, count: int, seed: int = 0
    ) -> None:
        self.judgements, self.judge = judgements, judge
        self._queries = {query.id: query for query in queries}
        self.pairs = _drawn(judgements, self._queries, judge, count, seed)

    @property
    def pending(self) -> list[tuple[Query, str]]:
        """The pairs that are left, in the order of judging."""
        graded = self.judgements.grades.get(self.judge, {})
        return [(self._queries[query], name) for query, name in self.pairs if (query, name) not in graded]

    def next(self) -> Pooled | None:
        """The next pair; None when all are graded."""
        left = self.pending
        if not left:
            return None
        query, document = left[0]
        return Pooled(query, document, len(self.pairs) - len(left) + 1, len(left))

    def record(self, pair: Pooled, grade: Grade) -> None:
        """Record the grade; errors as in `Judging.record`."""
        self.judgements.add(pair.query.id, pair.document, grade, judge=self.judge)

    def undo(self) -> bool:
        """Undo this judge's last grade; False if there is none."""
        return self.judgements.undo(judge=self.judge) is not None


def _drawn(judgements: Judgements, queries: Mapping[str, Query], judge: str, count: int, seed: int) -> list[Pair]:
    others = (judgements.grades[name] for name in judgements.people() if name != judge)
    graded = {pair for grades in others for pair, grade in grades.items() if grade is not None and pair[0] in queries}
    pairs = sorted(graded)
    random.Random(seed).shuffle(pairs)
    return pairs[:count]
