"""The prompt of yes/no rerankers, and how a model's answer becomes a score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import AfterValidator

from diptych.types import Floats

INSTRUCTION = "Does the document answer the query? Answer with one word, yes or no."
ANSWERS = ("yes", "no")
# Of p(yes) + p(no): below it the model answers something else, such as a thinking model's first word.
LEAST_SHARE = 1e-3


def _distinct(answers: tuple[str, str]) -> tuple[str, str]:
    yes, no = (word.strip() for word in answers)
    if not yes or not no:
        raise ValueError("an answer is empty: give two words, such as [yes, no]")
    if yes.casefold() == no.casefold():
        raise ValueError(f"{yes!r} and {no!r} are one word, since case does not count: give two words")
    return yes, no


Answers: TypeAlias = Annotated[tuple[str, str], AfterValidator(_distinct)]


def question(instruction: str, query: str, document: str) -> str:
    """The prompt for one pair."""
    return f"{instruction}\n\nQuery: {query}\n\nDocument: {document}"


def spellings(word: str) -> set[str]:
    """The word as an answer may have it: as given, lower, upper and title case, with and without a leading space."""
    cases = {word, word.lower(), word.upper(), word.capitalize()}
    return cases | {f" {case}" for case in cases}


def scores_of(log_odds: Iterable[float], *, raw: bool) -> Floats:
    """Scores float32 `[n]` from log-odds: unchanged if `raw`, else p(yes) / (p(yes) + p(no))."""
    odds = np.fromiter(log_odds, np.float64)
    values = odds if raw else 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return np.asarray(values, np.float32)
