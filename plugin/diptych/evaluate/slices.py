"""Slices: the judged queries in groups, since a mean can hide that one group loses."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.evaluate.comparison import Difference
from diptych.evaluate.significance import bootstrap_means, difference_interval
from diptych.types import Query

LENGTH, LANGUAGE = "length", "language"
LEAST = 10  # queries of a slice; smaller ones say nothing and are left out
SHORT, MEDIUM = 2, 5  # words


@dataclass(frozen=True, slots=True)
class Slice:
    """One group of the judged queries.

    Args:
        by: what groups them: `length`, `language`, or a metadata field.
        value: of this group, such as `1 to 2 words`.
        queries: their ids.
    """

    by: str
    value: str
    queries: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.by} {self.value}"


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """A run against the baseline within one slice; `low` and `high` are corrected for the number of slices."""

    slice: Slice
    mean: float
    low: float
    high: float


def slices_of(
    queries: Sequence[Query], by: Sequence[str], fields: Mapping[str, Mapping[str, str]] | None = None
) -> list[Slice]:
    """The slices of at least 10 queries, for each of `by` in the order of their size.

    `length` counts words. `language` is the query's metadata key `language`, else the script of its letters. Any other
    name is a metadata key of the query, else what `fields` gives for the key and the query's id.
    """
    found = []
    for name in by:
        groups: dict[str, list[str]] = {}
        for query in queries:
            value = _value(query, name, (fields or {}).get(name, {}))
            if value:
                groups.setdefault(value, []).append(query.id)
        largest = sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        found += [Slice(name, value, tuple(ids)) for value, ids in largest if len(ids) >= LEAST]
    return found


def differences_by_slice(
    difference: Difference, slices: Sequence[Slice], *, confidence: float = 0.95, samples: int = 10_000, seed: int = 0
) -> list[SliceDifference]:
    """The difference within each slice, with bootstrap intervals that hold together for all slices (Bonferroni)."""
    each = 1 - (1 - confidence) / max(1, len(slices))
    found = []
    for part in slices:
        values = np.array([difference.per_query[query] for query in part.queries if query in difference.per_query])
        if len(values) >= LEAST:
            means = bootstrap_means(values, samples=samples, seed=seed)
            low, high = difference_interval(values, means, confidence=each)
            found.append(SliceDifference(part, float(values.mean()), low, high))
    return found


def _value(query: Query, by: str, values: Mapping[str, str]) -> str:
    own = query.metadata.get(by)
    if own is not None:
        return str(own)
    if by == LENGTH:
        return _length(query.text)
    return _script(query.text) if by == LANGUAGE else values.get(query.id, "")


def _length(text: str) -> str:
    words = len(text.split())
    if words <= SHORT:
        return f"1 to {SHORT} words"
    return f"{SHORT + 1} to {MEDIUM} words" if words <= MEDIUM else f"{MEDIUM + 1} or more words"


def _script(text: str) -> str:
    """The script of most of its letters, such as `latin`; empty without letters."""
    scripts = Counter(unicodedata.name(letter, "?").split()[0].lower() for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""
