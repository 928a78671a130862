"""What the data hooks are asked for: queries, judgements and counter-instructions, in batches. All values are frozen.

| value | hook | what it asks for |
|---|---|---|
| `QueryRequest` | `diptych_generate_queries` | queries that documents answer |
| `JudgeRequest` | `diptych_judge` | how relevant documents are to queries |
| `CounterRequest` | `diptych_counterfactuals` | instructions under which two documents swap their labels |

Each names the generator that is meant, and its options: a plugin answers for its own generators and returns None for
others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.types import Document


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """Queries that are answered by documents.

    Args:
        generator: who is asked.
        documents: n documents.
        style: of the queries, such as question, keywords, claim, title or long; what there is tells the generator.
        count: at most so many for each document.
        seed: the same request with the same seed is answered alike where the generator can.
        options: of the generator.
    """

    generator: str
    documents: tuple[Document, ...]
    style: str = "question"
    count: int = 1
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """How relevant documents are to queries.

    Args:
        generator: who is asked.
        pairs: n pairs of a query's and a document's text.
        options: of the generator.
    """

    generator: str
    pairs: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instance:
    """A query with an instruction, the text of a document that satisfies both, and of one on topic that violates it."""

    query: str
    instruction: str
    positive: str
    negative: str


@dataclass(frozen=True, slots=True)
class CounterRequest:
    """Instructions that fit the query, are clearly other ones, and that the negative satisfies and the positive not.

    Args:
        generator: who is asked.
        instances: n instances.
        seed: as in `QueryRequest`.
        options: of the generator.
    """

    generator: str
    instances: tuple[Instance, ...]
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
