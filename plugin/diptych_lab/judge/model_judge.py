"""`ModelJudge`: a language model that grades through the hook `diptych_judge`, if it agrees with people.

Faggioli et al., "Perspectives on large language models for relevance judgment", ICTIR 2023, discuss the arguments for
and against. Here people judge first; a model's grades count only if its agreement with theirs is measured and reaches
the stated kappa. Texts go to the address that the config names, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from diptych.errors import ConfigError, ContractError, EvaluationError, RegistryError
from diptych.generation import JudgeRequest
from diptych.registry import Registry
from diptych.types import Query
from diptych_lab.judge.agreement import SecondJudging, common_grades, kappa
from diptych_lab.judge.judgement_files import HIGHEST
from diptych_lab.judge.judgements import Agreement, Judgements, Pair

LEAST_PAIRS = 30  # graded by people; with fewer, a measured agreement says little
MOST_PAIRS = 200  # graded again to measure the agreement
BATCH = 16  # pairs in one request; their grades are stored after it
PROMPT = (
    "You judge search results. How well does the text answer the query? Answer with one whole number, nothing else: "
    "0 if it is not relevant, 33 if it is on the topic but does not answer, 67 if it answers in part, 100 if it is "
    "exactly what was asked for. Numbers between these are allowed."
)


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
        _require_grades(judgements, again.pairs)
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


def _require_grades(judgements: Judgements, pairs: Sequence[Pair]) -> None:
    """Raise EvaluationError if people's grades cannot show agreement; nothing has been sent to the model yet."""
    grades = {judgements.grade(*pair) for pair in pairs}
    if len(pairs) < LEAST_PAIRS or len(grades) < 2:
        raise EvaluationError(
            "too few judgements of people to measure a model by",
            got=f"{len(pairs)} pairs with {len(grades)} different grades",
            expected=f"at least {LEAST_PAIRS}, not all with the same grade",
            do="judge more with diptych judge before the model continues",
        )
