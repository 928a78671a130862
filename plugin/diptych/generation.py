"""Requests to the data hooks: queries and judgements, in batches. All values are frozen.

| value | hook | what it requests |
|---|---|---|
| `QueryRequest` | `diptych_generate_queries` | queries that documents answer |
| `JudgeRequest` | `diptych_judge` | how relevant documents are to queries |

Each request names a generator and its options. A plugin answers for its own generators and returns None for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.types import Document


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A request for queries that documents answer.

    Args:
        generator: which generator shall answer.
        documents: n documents.
        style: of the queries, such as question, keywords, claim, title or long; the generator defines its styles.
        count: the most queries for each document.
        seed: a generator that can be repeatable answers the same request with the same seed alike.
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
    """A request to judge how relevant documents are to queries.

    Args:
        generator: which generator shall answer.
        pairs: n pairs of a query's and a document's text.
        options: of the generator.
        prompt: the instruction for a language model; the generator's own unless given.
    """

    generator: str
    pairs: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
