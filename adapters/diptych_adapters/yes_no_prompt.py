"""The question that yes/no rerankers ask a language model of a document, and how its answer becomes a score."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from diptych.types import Floats

INSTRUCTION = "Does the document answer the query? Answer with one word, yes or no."
ANSWERS = ("yes", "no")


def question(instruction: str, query: str, document: str) -> str:
    """What the model is asked of one pair."""
    return f"{instruction}\n\nQuery: {query}\n\nDocument: {document}"


def spellings(word: str) -> set[str]:
    """How an answer may begin: in lower, upper and title case, with and without a space before it."""
    cases = {word, word.lower(), word.upper(), word.capitalize()}
    return cases | {f" {case}" for case in cases}


def scores_of(log_odds: Iterable[float], *, raw: bool) -> Floats:
    """Scores float32 `[n]`: the logarithms of p(yes) / p(no), or p(yes) / (p(yes) + p(no))."""
    odds = np.fromiter(log_odds, np.float64)
    values = odds if raw else 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return np.asarray(values, np.float32)
