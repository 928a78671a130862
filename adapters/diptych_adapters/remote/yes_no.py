"""A chat model behind HTTP as a reranker: is the document relevant, yes or no?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.identity import space
from diptych_adapters.remote.json_answers import as_text
from diptych_adapters.remote.options import OPENAI, YesNoApiOptions
from diptych_adapters.yes_no_prompt import LEAST_SHARE, question, scores_of

_PATH = "/chat/completions"
_NEGLIGIBLE = -100.0  # log-probability; endpoints write -9999 and the like for "very small" or "not computed"
_ROUNDING = 1e-6  # probability; what is left beside the listed tokens is not known more precisely
_DO = "use a model that answers with one word; turn thinking off with `fields`, or change `instruction`"


class YesNoApiReranker:
    """Scores a pair by a chat model's probability of "yes" against "no" as the first token of its answer.

    Each pair takes one request, and the endpoint must return `logprobs`. See `YesNoApiOptions` for the options.
    """

    max_length: int | None = None  # the server cuts
    independent = True

    def __init__(self, **options: Any) -> None:
        self.options: YesNoApiOptions = YesNoApiOptions(**options).with_key_of(*OPENAI)
        self.endpoint = Endpoint(self.options, name="yes-no-api")
        self._words = [word.casefold() for word in self.options.answers]

    @property
    def fingerprint(self) -> Fingerprint:
        """Covers the model's name and all that is sent. Only canaries notice that the name means another model."""
        facts = {"model", "instruction", "answers", "raw_scores", "top_logprobs", "max_characters", "fields"}
        return Fingerprint(space("yes-no-api", self.options.model_dump(include=facts)))

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better: 0 to 1, or with `raw_scores` log-odds.

        Raises:
            RemoteError: no answer, one without log-probabilities, or one in which the two words are improbable.
        """
        bodies = [self._body(query, document) for query, document in pairs]
        answers = self.endpoint.post_each(_PATH, bodies, deadline=self.options.query_deadline)
        return scores_of(map(self._log_odds, answers), raw=self.options.raw_scores)

    def _body(self, query: str, document: str) -> dict[str, Any]:
        options = self.options
        content = question(options.instruction, query, document[: options.max_characters])
        body = {
            "model": options.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": options.top_logprobs,
            **options.fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _log_odds(self, answer: Any) -> float:
        tokens = self._first_tokens(answer)
        listed = [
            [logprob for token, logprob in tokens.items() if token.strip().casefold() == word] for word in self._words
        ]
        probabilities = [sum(math.exp(max(logprob, _NEGLIGIBLE)) for logprob in own) for own in listed]
        if sum(probabilities) < LEAST_SHARE:
            got = ", ".join(map(repr, tokens))
            expected = f"{' or '.join(map(repr, self._words))} with a probability of at least {LEAST_SHARE}"
            raise self.endpoint.error(
                "the model does not answer as the prompt asks", _PATH, got=got, expected=expected, do=_DO
            )
        yes, no = (probability or _most_unlisted(tokens.values()) for probability in probabilities)
        return math.log(yes) - math.log(no)

    def _first_tokens(self, answer: Any) -> dict[str, float]:
        """The most probable first tokens of the answer with their log-probabilities."""
        try:
            first = answer["choices"][0]["logprobs"]["content"][0]
            listed = [*first.get("top_logprobs", ()), first]
            tokens = {str(own["token"]): float(own["logprob"]) for own in listed}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            tokens = {}
        if not tokens or not all(logprob <= 1e-3 for logprob in tokens.values()):
            raise self.endpoint.error(
                "the endpoint's answer has no log-probabilities",
                _PATH,
                got=as_text(answer),
                expected="choices[0].logprobs.content[0] with `top_logprobs`",
                do="use an endpoint that gives them for chat completions, such as vLLM, llama.cpp or OpenAI",
            )
        return tokens


def _most_unlisted(logprobs: Iterable[float]) -> float:
    """The highest probability of a token that is not listed: at most the least listed one, and what all leave over."""
    computed = [math.exp(logprob) for logprob in logprobs if logprob > _NEGLIGIBLE]
    return min(*computed, max(1 - sum(computed), _ROUNDING))
