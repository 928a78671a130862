"""`Chat`: a model behind an OpenAI-compatible `/chat/completions` writes queries, judgements and counter-instructions.

Address, key, retries and timeouts are those of the remote adapters: the key comes from an environment variable and is
in no error, log or file. Texts are sent to the configured server.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from diptych.errors import ConfigError
from diptych.generation import CounterRequest, Instance, JudgeRequest, QueryRequest
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.options import OPENAI, OPENAI_URL, RemoteOptions

PATH = "/chat/completions"
STYLES = {
    "question": "a question that a person would ask who does not know the text",
    "keywords": "three to six search words, no sentence",
    "claim": "a statement that the text supports or refutes",
    "title": "a short title that the text could have",
    "long": "a request of two or three sentences that describes what is needed",
}
_MARKS = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class ChatOptions(RemoteOptions):
    """Options of the generator `chat`."""

    base_url: str = Field(OPENAI_URL, description="Address of the endpoint up to and including `/v1`, without a key.")
    model: str = Field(min_length=1, description="Model name, as the endpoint knows it.")
    temperature: float = Field(0.7, ge=0, description="Temperature of queries and counter-instructions; 0 for judging.")
    max_tokens: int = Field(512, ge=1, description="Maximum tokens of an answer.")
    max_characters: int = Field(6000, ge=1, description="Characters of a document to send; the rest is cut.")
    styles: dict[str, str] = Field(default_factory=dict, description="What to ask for in each style of query.")
    fields: dict[str, Any] = Field(default_factory=dict, description="Extra fields of every request.")


class Chat:
    """The generator `chat`.

    Args:
        options: see `ChatOptions`.
    """

    def __init__(self, options: ChatOptions) -> None:
        self.options = options.with_key_of(*OPENAI)
        self.endpoint = Endpoint(self.options, name="chat")
        self.styles = STYLES | options.styles

    def queries(self, request: QueryRequest) -> list[list[str]]:
        """For each document the lines of one answer, at most `count`.

        Raises:
            ConfigError: an unknown style.
            RemoteError: no usable answer.
        """
        if request.style not in self.styles:
            expected = ", ".join(self.styles)
            raise ConfigError("unknown style", where="generator 'chat'", got=request.style, expected=expected)
        instruction = (
            f"Write {request.count} different search queries that the text below answers, one on each line, nothing "
            f"else. Each is {self.styles[request.style]}. Use the language of the text, and not its sentences."
        )
        texts = [self._cut(f"{document.title}\n{document.text}".strip()) for document in request.documents]
        answers = self._ask([(instruction, text) for text in texts], seed=request.seed)
        return [_lines(answer)[: request.count] for answer in answers]

    def judge(self, request: JudgeRequest) -> list[float]:
        """The number from 0 to 100 answered for each pair, divided by 100; errors as `queries`."""
        instruction = request.prompt or (
            "How well does the text answer the query? Answer with one whole number from 0 (not at all) to 100 "
            "(completely), nothing else."
        )
        texts = [f"Query: {query}\n\nText: {self._cut(text)}" for query, text in request.pairs]
        return [self._number(answer) for answer in self._ask([(instruction, text) for text in texts], temperature=0.0)]

    def counter(self, request: CounterRequest) -> list[str]:
        """The first line that is answered for each instance; errors as `queries`."""
        instruction = (
            "A search has a query and an instruction that says which texts count. Text A satisfies the instruction, "
            "text B does not. Write another instruction for the same query, clearly different from the given one, that "
            "text B satisfies and text A does not. Answer with the instruction on one line, nothing else."
        )
        answers = self._ask(
            [(instruction, self._instance_text(instance)) for instance in request.instances], seed=request.seed
        )
        return [next(iter(_lines(answer)), "") for answer in answers]

    def _instance_text(self, instance: Instance) -> str:
        texts = f"Text A: {self._cut(instance.positive)}\n\nText B: {self._cut(instance.negative)}"
        return f"Query: {instance.query}\nInstruction: {instance.instruction}\n\n{texts}"

    def _ask(self, prompts: Sequence[tuple[str, str]], *, temperature: float | None = None, seed: int = 0) -> list[str]:
        actual = self.options.temperature if temperature is None else temperature
        options = self.options
        shared = {"model": options.model, "temperature": actual, "max_tokens": options.max_tokens, "seed": seed}
        bodies = [
            {
                **shared,
                "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": text}],
                **self.options.fields,
            }
            for instruction, text in prompts
        ]
        return [self._text(answer) for answer in self.endpoint.post_each(PATH, bodies)]

    def _text(self, answer: Any) -> str:
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            expected = "choices[0].message.content, a text"
            raise self.endpoint.error(
                "the endpoint's answer is malformed", PATH, got=repr(answer)[:200], expected=expected
            )
        return content

    def _number(self, answer: str) -> float:
        match = _NUMBER.search(answer)
        number = float(match.group()) if match else -1.0
        if not 0 <= number <= 100:
            raise self.endpoint.error(
                "a judgement is not a number", PATH, got=answer[:80], expected="0 to 100", do="try another model"
            )
        return number / 100

    def _cut(self, text: str) -> str:
        return text[: self.options.max_characters]


def chat(options: Mapping[str, Any]) -> Chat:
    """The generator with these options, created once for each set of them.

    Raises:
        ConfigError: options that it does not take, or no key where one is named. No value is shown.
    """
    return _cached_chat(json.dumps(dict(options), sort_keys=True))


@functools.lru_cache(maxsize=8)
def _cached_chat(options: str) -> Chat:
    try:
        return Chat(ChatOptions(**json.loads(options)))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
    raise ConfigError("the options cannot be used", where="generator 'chat'", got=problems)


def _lines(answer: str) -> list[str]:
    """The lines of an answer without numbers, bullets, quotes, and a model's thoughts before the answer."""
    _, _, after = answer.rpartition("</think>")
    lines = (_MARKS.sub("", line).strip().strip('"“”').strip() for line in after.splitlines())
    return [line for line in lines if line]
