"""`Templates`: queries, judgements and counter-instructions without a model, for tests and as a fallback.

| style | a query is |
|---|---|
| `title` | the title; the first sentence where there is none |
| `first`, `last`, `claim` | the first sentence, the last, each sentence in turn |
| `long` | two sentences in a row |
| `keywords` | the heaviest words by tf-idf over the documents of the request |
| `question` | such words in a question |

Further queries for a document use other sentences or words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from diptych import Document
from diptych.errors import ConfigError
from diptych.generation import CounterRequest, Instance, JudgeRequest, QueryRequest

STYLES = ("question", "keywords", "claim", "title", "long", "first", "last")
KEYWORDS = 4  # words in a query of the style `keywords`
QUESTIONS = (
    "what is {0} {1}?",
    "how does {0} relate to {1}?",
    "which {0} is about {1}?",
    "where can I read about {0} and {1}?",
)
_WORD = re.compile(r"[^\W_]{3,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_ORDERS = ((re.compile(r"\bmust not mention\b"), "must mention"), (re.compile(r"\bmust mention\b"), "must not mention"))


class Templates:
    """The generator `templates`. The same request gets the same answer."""

    def queries(self, request: QueryRequest) -> list[list[str]]:
        """For each document at most `count` different texts.

        Raises:
            ConfigError: an unknown style.
        """
        if request.style not in STYLES:
            expected = ", ".join(STYLES)
            raise ConfigError("unknown style", where="generator 'templates'", got=request.style, expected=expected)
        weights = _idf([f"{document.title} {document.text}" for document in request.documents])
        return [
            list(dict.fromkeys(_generated(document, request.style, request.count, weights)))[: request.count]
            for document in request.documents
        ]

    def judge(self, request: JudgeRequest) -> list[float]:
        """The share of the query's words that the document contains."""
        return [_share(_words(query), set(_words(document))) for query, document in request.pairs]

    def counter(self, request: CounterRequest) -> list[str]:
        """Exchanges `must mention` and `must not mention`; else requires what only the negative mentions."""
        return [_counter_instruction(instance) for instance in request.instances]


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
        yield from _of_words(_heaviest(f"{document.title} {document.text}", weights), style, count)


def _of_words(words: Sequence[str], style: str, count: int) -> Iterator[str]:
    for turn in range(count):
        chosen = words[turn : turn + KEYWORDS]
        if style == "keywords" and chosen:
            yield " ".join(chosen)
        elif style == "question" and len(chosen) > 1:
            yield QUESTIONS[turn % len(QUESTIONS)].format(*chosen)


def _heaviest(text: str, weights: dict[str, float]) -> list[str]:
    """The words of a text by tf-idf, heaviest first; equal ones in alphabetical order."""
    counts = Counter(_words(text))
    return sorted(counts, key=lambda word: (-counts[word] * weights.get(word, 0.0), word))


def _idf(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(1 + len(texts) / count) for word, count in counts.items()}


def _counter_instruction(instance: Instance) -> str:
    for order, other in _ORDERS:
        if order.search(instance.instruction):
            return order.sub(other, instance.instruction)
    negative_words, other_words = _words(instance.negative), {*_words(instance.positive), *_words(instance.query)}
    counts = Counter(word for word in negative_words if word not in other_words)
    best = min(counts, key=lambda word: (-counts[word] * len(word), word), default="")
    return f"The document must mention {best}." if best else ""


def _share(query_words: Sequence[str], document_words: set[str]) -> float:
    return sum(word in document_words for word in query_words) / len(query_words) if query_words else 0.0


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
