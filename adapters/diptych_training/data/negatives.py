"""Options and report of mining."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from diptych.errors import ConfigError

Scored = tuple[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningOptions:
    """Which candidates become negatives.

    Args:
        ranks: first and last rank that count, from 1, relevant documents included in the count.
        per_query: how many negatives a query gets.
        pick: the `top` ones of those left, or `random` ones, drawn by `seed` and the query's id.
        margin: left out is what scores above the best relevant document's score minus this; None does not ask.
        relative: the same with that score less `1 - relative` of its size: 0.95 times it where it is positive.
        teacher_margin: the same for the teacher's scores.

    Raises:
        ConfigError: ranks that are not a window, or a negative number.
    """

    ranks: tuple[int, int] = (2, 100)
    per_query: int = 1
    pick: Literal["top", "random"] = "top"
    margin: float | None = None
    relative: float | None = 0.95
    teacher_margin: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise ConfigError("invalid range of ranks", where="mining", got=self.ranks, expected="1 <= first <= last")
        if self.per_query < 1 or min(self.margin or 0, self.relative or 0) < 0:
            got = f"per_query {self.per_query}, margin {self.margin}, relative {self.relative}"
            raise ConfigError("a number is too small", where="mining", got=got, expected="per_query >= 1, others >= 0")

    def threshold(self, positive: float) -> float:
        """The highest score that a negative may have beside a relevant document with this score."""
        limits = [math.inf]
        if self.margin is not None:
            limits.append(positive - self.margin)
        if self.relative is not None:
            limits.append(positive - (1 - self.relative) * abs(positive))
        return min(limits)


@dataclass(frozen=True, slots=True)
class MiningReport:
    """The counts of mining: `candidates` is `kept` plus all of `dropped`.

    Args:
        queries: how many were mined for.
        candidates: documents within the window of ranks.
        kept: negatives.
        dropped: how many were left out, by reason: `judged`, `same text`, `near the positive`, `teacher`, `gone` from
            the source meanwhile, `not needed` beyond `per_query`.
        short: queries that got fewer than `per_query`, with how many.
        unscored: queries whose relevant documents have no score, so that nothing was compared with it.
        unjudged: queries without a relevant document, which were not mined for.
    """

    queries: int = 0
    candidates: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    short: Mapping[str, int] = field(default_factory=dict)
    unscored: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        lines = [f"{self.kept} negatives for {self.queries} queries, of {self.candidates} candidates ({reasons})"]
        groups = (("fewer than wanted", self.short), ("positive without a score", self.unscored))
        for words, ids in (*groups, ("without a positive", self.unjudged)):
            if ids:
                examples = ", ".join(islice(ids, 5))
                lines.append(f"{words}: {len(ids)} queries ({examples}{', ...' if len(ids) > 5 else ''})")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Mined:
    """Negatives by query, best score first; the texts of all documents named there; and the report."""

    negatives: Mapping[str, Sequence[Scored]]
    texts: Mapping[str, str]
    report: MiningReport
