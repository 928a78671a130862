"""`Generator`: writes queries through the data hook, and checks them.

Built in are `templates`, which needs no model, and `chat`, a model behind an OpenAI-compatible endpoint; any plugin may
bring others.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from diptych import Document, Registry
from diptych.errors import ConfigError, ContractError, RegistryError
from diptych.generation import JudgeRequest, QueryRequest
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.options import OPENAI_URL, RemoteOptions

TEMPLATE_STYLES = ("question", "keywords", "claim", "title", "long", "first", "last")
KEYWORDS = 4  # words in a query of the style `keywords`
QUESTIONS = (
    "what is {0} {1}?",
    "how does {0} relate to {1}?",
    "which {0} is about {1}?",
    "where can I read about {0} and {1}?",
)
_WORD = re.compile(r"[^\W_]{3,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

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
        result = self._hook.diptych_generate_queries(request=request)
        if result is None:
            raise RegistryError(
                f"no plugin has a generator called {self.name!r}",
                where="diptych_generate_queries",
                expected="templates, chat, or one of an installed plugin",
                do="a plugin answers diptych_generate_queries when the request names its generator",
            )
        answers = list(result)
        if len(answers) != len(documents):
            self._refuse(f"{len(answers)} answers", f"{len(documents)}, one for each in order")
        for index, texts in enumerate(answers):
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                self._refuse(f"{texts!r} for document {index}", "a list of texts")
        return [[cleaned for text in texts if (cleaned := " ".join(text.split()))][:count] for texts in answers]

    def _refuse(self, got: str, expected: str) -> None:
        what = f"generator {self.name!r} returned an unexpected answer"
        raise ContractError(what, where="diptych_generate_queries", got=got[:200], expected=expected)


class ChatOptions(RemoteOptions):
    """Options of the generator `chat`."""

    base_url: str = Field(OPENAI_URL, description="Address of the endpoint up to and including `/v1`, without a key.")
    model: str = Field(min_length=1, description="Model name, as the endpoint knows it.")
    temperature: float = Field(0.7, ge=0, description="Temperature of queries; 0 for judging.")
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
        self.options = options
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
        most = self.options.max_characters
        texts = [f"{document.title}\n{document.text}".strip()[:most] for document in request.documents]
        answers = self._ask([(instruction, text) for text in texts], seed=request.seed)
        return [_lines(answer)[: request.count] for answer in answers]

    def judge(self, request: JudgeRequest) -> list[float]:
        """The number from 0 to 100 answered for each pair, divided by 100; errors as `queries`."""
        instruction = request.prompt or (
            "How well does the text answer the query? Answer with one whole number from 0 (not at all) to 100 "
            "(completely), nothing else."
        )
        texts = [f"Query: {query}\n\nText: {text[: self.options.max_characters]}" for query, text in request.pairs]
        return [self._number(answer) for answer in self._ask([(instruction, text) for text in texts], temperature=0.0)]

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


@functools.lru_cache(maxsize=8)
def chat(options: str) -> Chat:
    """The generator with these options, a JSON object; created once for each set of them.

    Raises:
        ConfigError: options that it does not take, or no key where one is named. No value is shown.
    """
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


class Templates:
    """The generator `templates`. The same request gets the same answer."""

    def queries(self, request: QueryRequest) -> list[list[str]]:
        """For each document at most `count` different texts.

        Raises:
            ConfigError: an unknown style.
        """
        if request.style not in TEMPLATE_STYLES:
            expected = ", ".join(TEMPLATE_STYLES)
            raise ConfigError("unknown style", where="generator 'templates'", got=request.style, expected=expected)
        weights = _idf([f"{document.title} {document.text}" for document in request.documents])
        return [
            list(dict.fromkeys(_generated(document, request.style, request.count, weights)))[: request.count]
            for document in request.documents
        ]

    def judge(self, request: JudgeRequest) -> list[float]:
        """The share of the query's words that the document contains."""
        pairs = [(_words(query), {*_words(document)}) for query, document in request.pairs]
        return [sum(word in there for word in words) / len(words) if words else 0.0 for words, there in pairs]


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, cut where white space follows a full stop, question or exclamation mark."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def _generated(document: Document, style: str, count: int, weights: dict[str, float]) -> Iterator[str]:
    sentences = sentences_of(document.text) or [document.title]
    if style == "title":
        yield document.title or sentences[0]
    elif style == "first":
        yield sentences[0]
    elif style == "last":
        yield sentences[-1]
    elif style == "claim":
        yield from sentences
    elif style == "long":
        yield from (" ".join(sentences[at : at + 2]) for at in range(max(1, len(sentences) - 1)))
    else:
        counts = Counter(_words(f"{document.title} {document.text}"))
        # By tf-idf, heaviest first; equal ones in alphabetical order.
        words = sorted(counts, key=lambda word: (-counts[word] * weights.get(word, 0.0), word))
        for turn in range(count):
            chosen = words[turn : turn + KEYWORDS]
            if style == "keywords" and chosen:
                yield " ".join(chosen)
            elif style == "question" and len(chosen) > 1:
                yield QUESTIONS[turn % len(QUESTIONS)].format(*chosen)


def _idf(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(1 + len(texts) / count) for word, count in counts.items()}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
