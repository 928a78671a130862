"""The agreement of judges: Cohen's kappa, the pairs that a second judge grades again, and a model that judges.

Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement, 1960; with weights:
"Weighted kappa", Psychological Bulletin, 1968. 1 is perfect agreement, 0 is agreement by chance.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from diptych.errors import ConfigError, ContractError, EvaluationError, RegistryError
from diptych.generation import JudgeRequest
from diptych.registry import Registry
from diptych.types import Query
from diptych_lab.judge.judgements import HIGHEST, Agreement, Grade, Judgements, Pair
from diptych_lab.judge.judging import Pooled

LEAST_PAIRS = 30  # graded by people; with fewer, a measured agreement says little
MOST_PAIRS = 200  # graded again to measure the agreement
BATCH = 16  # pairs in one request; their grades are stored after it
PROMPT = (
    "You judge search results. How well does the text answer the query? Answer with one whole number, nothing else: "
    "0 if it is not relevant, 33 if it is on the topic but does not answer, 67 if it answers in part, 100 if it is "
    "exactly what was asked for. Numbers between these are allowed."
)

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
    found = []
    for first, second, (ours, theirs) in graded:
        if ours:
            same = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)
            plain, linear, quadratic = (kappa(ours, theirs, weights=own) for own in ("none", "linear", "quadratic"))
            found.append(Kappa((first, second), len(ours), same, plain, linear, quadratic))
    return found


def common_grades(ours: Mapping[Pair, Grade], theirs: Mapping[Pair, Grade]) -> tuple[list[int], list[int]]:
    """The grades of both judges for the pairs that both have graded."""
    both = [(a, b) for pair, a in ours.items() if a is not None and (b := theirs.get(pair)) is not None]
    return [a for a, _ in both], [b for _, b in both]


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
        others = (judgements.grades[name] for name in judgements.people() if name != judge)
        pairs = {pair for grades in others for pair, grade in grades.items() if grade is not None}
        self.pairs = sorted(pair for pair in pairs if pair[0] in self._queries)
        random.Random(seed).shuffle(self.pairs)
        del self.pairs[count:]

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


class ModelJudge:
    """A model as a judge, under the name `generator model`.

    Args:
        generator: name of the generator, such as `chat` for a model behind an OpenAI-compatible endpoint.
        options: options of the generator.
        registry: the plugins.
        least_kappa: the lowest quadratic kappa with people at which its grades count.

    Raises:
        ConfigError: `chat` without a `base_url`: the config must say where texts are sent.
    """

    def __init__(
        self, generator: str, options: Mapping[str, Any], registry: Registry, *, least_kappa: float = 0.6
    ) -> None:
        self.generator, self.options, self.least_kappa = generator, dict(options), least_kappa
        self._hook = registry.hook
        if generator == "chat" and not self.options.get("base_url"):
            do = "set base_url under evaluate.judge.options; documents and queries are sent there"
            raise ConfigError("the address of the judging model is missing", where="evaluate.judge", do=do)

    @property
    def name(self) -> str:
        """The name of this judge in the judgements."""
        return f"{self.generator} {self.options.get('model', '')}".strip()

    @property
    def description(self) -> str:
        """The prompt and the address, for people to read before texts are sent."""
        address = urlsplit(str(self.options.get("base_url") or ""))
        place = f" at {address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}" if address.netloc else ""
        return f"{self.name}{place} is asked:\n{PROMPT}\n\nQuery: ...\n\nText: ..."

    def grades(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """A grade from 0 to 3 for each pair of a query's and a document's text.

        Raises:
            RegistryError: no plugin has this generator.
            ContractError: it did not return one number from 0 to 1 for each pair.
            RemoteError: no usable answer.
        """
        request = JudgeRequest(self.generator, tuple(pairs), self.options, PROMPT)
        scores = self._hook.diptych_judge(request=request)
        if scores is None:
            do = "install a plugin that has it, such as diptych[train] for chat"
            raise RegistryError(f"no plugin has a generator called {self.generator!r}", where="diptych_judge", do=do)
        if len(scores) != len(pairs) or not all(0 <= score <= 1 for score in scores):
            raise ContractError(
                f"generator {self.generator!r} returned unusable scores",
                where="diptych_judge",
                got=str(list(scores))[:200],
                expected=f"{len(pairs)} numbers from 0 to 1",
            )
        return [round(HIGHEST * score) for score in scores]

    def agree(
        self, judgements: Judgements, queries: Sequence[Query], texts: Mapping[str, str], *, seed: int = 0
    ) -> Agreement:
        """Measure the agreement with people on pairs that they have graded, and record whether the grades count.

        Args:
            judgements: people's judgements, to which the model's are added.
            queries: the judged queries, with their texts.
            texts: texts of the documents, by id.
            seed: seed of the draw of at most 200 pairs.

        Raises:
            EvaluationError: people have graded fewer than 30 pairs, or all with the same grade.
        """
        again = SecondJudging(judgements, queries, judge=self.name, count=MOST_PAIRS, seed=seed)
        known = {judgements.grade(*pair) for pair in again.pairs}
        if len(again.pairs) < LEAST_PAIRS or len(known) < 2:  # nothing has been sent to the model yet
            raise EvaluationError(
                "too few judgements of people to measure a model by",
                got=f"{len(again.pairs)} pairs with {len(known)} different grades",
                expected=f"at least {LEAST_PAIRS}, not all with the same grade",
                do="judge more with diptych judge before the model continues",
            )
        # Until the agreement is known, the model's grades do not count as a person's.
        judgements.measured(self.name, Agreement(0.0, 0, accepted=False))
        self.judge(judgements, again.pending, texts)
        people = {pair: judgements.grade(*pair) for pair in again.pairs}
        ours, theirs = common_grades(judgements.grades.get(self.name, {}), people)
        value = kappa(ours, theirs)
        agreement = Agreement(round(value, 4), len(ours), accepted=value >= self.least_kappa)
        judgements.measured(self.name, agreement)
        return agreement

    def judge(self, judgements: Judgements, pairs: Sequence[tuple[Query, str]], texts: Mapping[str, str]) -> None:
        """Grade pairs of a query and a document's id, and record the grades under the model's name."""
        known = [(query, name) for query, name in pairs if name in texts]
        for start in range(0, len(known), BATCH):
            batch = known[start : start + BATCH]
            grades = self.grades([(query.text, texts[name]) for query, name in batch])
            for (query, name), grade in zip(batch, grades, strict=True):
                judgements.add(query.id, name, grade, judge=self.name)
