"""`Generator`: writes queries, judgements and counter-instructions through the data hooks, and checks them.

Built in are `templates`, which needs no model, and `chat`, a model behind an OpenAI-compatible endpoint; any plugin may
bring others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from diptych import Document, Registry
from diptych.errors import ContractError, RegistryError
from diptych.generation import CounterRequest, Instance, JudgeRequest, QueryRequest

T = TypeVar("T")


class Generator:
    """A generator by its name.

    Args:
        name: such as `templates` or `chat`.
        options: of the generator.
        registry: of the plugins; by default all that are installed.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None
    ) -> None:
        self.name, self.options = name, dict(options or {})
        self._hook = (registry or Registry.default()).hook

    def __repr__(self) -> str:
        return f"Generator({self.name!r})"

    def queries(
        self, documents: Sequence[Document], *, style: str = "question", count: int = 1, seed: int = 0
    ) -> list[list[str]]:
        """For each document at most `count` queries of this style, without empty ones.

        Raises:
            RegistryError: no plugin has this generator.
            ContractError: it answered something else.
        """
        if not documents:
            return []
        request = QueryRequest(self.name, tuple(documents), style, count, seed, self.options)
        answers = self._answers("diptych_generate_queries", request, len(documents))
        for index, texts in enumerate(answers):
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                self._refuse("diptych_generate_queries", f"{texts!r} for document {index}", "a list of texts")
        return [[cleaned for text in texts if (cleaned := " ".join(text.split()))][:count] for texts in answers]

    def judge(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """A score from 0 to 1 for each pair of a query's and a document's text; errors as `queries`."""
        if not pairs:
            return []
        scores = self._answers("diptych_judge", JudgeRequest(self.name, tuple(pairs), self.options), len(pairs))
        for index, score in enumerate(scores):
            number = isinstance(score, int | float) and math.isfinite(score)
            if not number or not 0 <= score <= 1:
                self._refuse("diptych_judge", f"{score!r} for pair {index}", "a number from 0 to 1")
        return [float(score) for score in scores]

    def counter(self, instances: Sequence[Instance], *, seed: int = 0) -> list[str]:
        """A counter-instruction for each instance, "" where there is none; errors as `queries`."""
        if not instances:
            return []
        request = CounterRequest(self.name, tuple(instances), seed, self.options)
        texts = self._answers("diptych_counterfactuals", request, len(instances))
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                self._refuse("diptych_counterfactuals", f"{text!r} for instance {index}", "a text")
        return [" ".join(text.split()) for text in texts]

    def _answers(self, hook: str, request: object, count: int) -> list[Any]:
        result = getattr(self._hook, hook)(request=request)
        if result is None:
            raise RegistryError(
                f"no plugin has a generator called {self.name!r}",
                where=hook,
                expected="templates, chat, or one of an installed plugin",
                do=f"a plugin answers {hook} when the request names its generator",
            )
        answers = list(result)
        if len(answers) != count:
            self._refuse(hook, f"{len(answers)} answers", f"{count}, one for each in order")
        return answers

    def _refuse(self, hook: str, got: str, expected: str) -> None:
        raise ContractError(
            f"generator {self.name!r} returned an unexpected answer", where=hook, got=got[:200], expected=expected
        )
