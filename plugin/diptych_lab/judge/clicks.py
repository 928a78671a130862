"""Judged queries from logs of clicks, corrected for position bias: higher ranks are clicked more often.

The position-based model: a document is clicked if the user looks at its rank, with a probability that depends on the
rank alone (its *propensity*), and finds it relevant. Each click then counts 1 / propensity of its rank:
Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback", WSDM 2017, who also give the power
law `(1 / rank) ** power`. Propensities are measured, rather than assumed, if the same document was shown for the same
query at several ranks, by several rankers or because the first ranks were randomised: the adjacent chain of Agarwal
et al., "Estimating position bias without intrusive interventions", WSDM 2019. Both hold only if a document's rank did
not depend on how relevant it was *at that moment*, for example because it was pinned for an event.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels
from diptych.types import Query
from diptych_lab.judge.judgements import HIGHEST

LEAST_SHOWN = 10  # times that a query was shown; with fewer, its clicks are noise
LEAST_CLICKS = 20  # on documents shown at both of two neighbouring ranks, to measure their ratio
SMALLEST = 0.1  # propensity used as a weight; below it, single clicks on low ranks would decide


_Id: TypeAlias = Annotated[str, Field(min_length=1)]


class Shown(BaseModel, strict=True, frozen=True):
    """One list that was shown, a line of a log: the query's text, document ids from the top, and those clicked."""

    query: Annotated[str, Field(pattern=r"\S"), AfterValidator(lambda text: " ".join(text.split()))]
    shown: tuple[_Id, ...]
    clicked: frozenset[_Id]


@dataclass(frozen=True, slots=True)
class ClickLog:
    """Lists that were shown, with their clicks."""

    shown: tuple[Shown, ...]

    @property
    def ignored(self) -> tuple[tuple[str, str], ...]:
        """Clicks on documents that their list did not show: the query and the document's id. They count nowhere."""
        return tuple(
            (listing.query, name)
            for listing in self.shown
            for name in sorted(listing.clicked.difference(listing.shown))
        )

    @classmethod
    def read(cls, path: str | Path) -> ClickLog:
        """From JSON lines: `{"query": "convert audio", "shown": ["sox", "lame"], "clicked": ["lame"]}`.

        Raises:
            EvaluationError: the file cannot be read, or a line has another form; the error has its number.
        """
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise EvaluationError("cannot read the log of clicks", where=path, got=str(error)) from error
        shown = []
        for number, line in enumerate(lines, 1):
            try:
                shown += [Shown.model_validate_json(line)] if line.strip() else []
            except ValidationError as error:
                what, where = "a line is not a shown list with its clicks", f"{path}, line {number}"
                expected = '{"query": "some words", "shown": ["id", ...], "clicked": ["id", ...]}'
                raise EvaluationError(what, where=where, got=line[:80], expected=expected) from error
        return cls(tuple(shown))


@dataclass(frozen=True, slots=True)
class Propensities:
    """How likely users look at each rank, relative to the first."""

    values: tuple[float, ...]

    @classmethod
    def power_law(cls, power: float, *, ranks: int) -> Propensities:
        """Assume `(1 / rank) ** power`; a power of 1 is usual without a measurement, 0 means no bias."""
        return cls(tuple((1 / rank) ** power for rank in range(1, ranks + 1)))

    @classmethod
    def harvested(cls, log: ClickLog) -> Propensities:
        """Measured from documents that the log shows for one query at two neighbouring ranks.

        Raises:
            EvaluationError: fewer than 20 clicks on such documents for two of the first ten ranks.
        """
        shown, clicks = Counter[_Place](), Counter[_Place]()  # how often each document was at each rank, and clicked
        for listing in log.shown:
            for rank, name in enumerate(listing.shown, 1):
                shown[listing.query, name, rank] += 1
                clicks[listing.query, name, rank] += name in listing.clicked
        ranks = min(10, max((len(listing.shown) for listing in log.shown), default=0))
        values = [1.0]
        for rank in range(1, ranks):
            upper, lower = _rates(shown, clicks, rank), _rates(shown, clicks, rank + 1)
            common = upper.keys() & lower.keys()
            count = sum(clicks[q, d, at] for q, d in common for at in (rank, rank + 1))
            above, below = (sum(rates[pair] for pair in common) for rates in (upper, lower))
            if count < LEAST_CLICKS or not above:
                raise EvaluationError(
                    "the log does not show how much the rank matters",
                    where=f"ranks {rank} and {rank + 1}",
                    got=f"{count} clicks on documents that were shown at both for the same query",
                    expected=f"at least {LEAST_CLICKS}",
                    do="randomise the first ranks for a while, or assume a power law, such as --power 1",
                )
            values.append(values[-1] * below / above)
        return cls(tuple(values))

    def of(self, rank: int) -> float:
        """The propensity of a rank, from 1; ranks beyond the last known one have its propensity."""
        return self.values[min(rank, len(self.values)) - 1]


def judged_from_clicks(
    log: ClickLog, propensities: Propensities, *, least_shown: int = LEAST_SHOWN
) -> tuple[list[Query], Qrels]:
    """Queries, and their documents with grades from 0 to 3: a query's best document has 3, half its worth gives 2.

    A document's worth is its mean number of clicks, each weighted by 1 / propensity of its rank, at most 10. A query's
    metadata has `shown`, how often it was shown. Queries shown fewer than `least_shown` times, and queries without a
    click, are left out.
    """
    by_query: dict[str, list[Shown]] = defaultdict(list)
    for listing in log.shown:
        by_query[listing.query].append(listing)
    queries, judgements = [], {}
    for text, lists in by_query.items():
        sums, counts = Counter[str](), Counter[str]()
        for listing in lists:
            for rank, name in enumerate(listing.shown, 1):
                counts[name] += 1
                sums[name] += (name in listing.clicked) / max(propensities.of(rank), SMALLEST)  # type: ignore[assignment]
        worth = {name: sums[name] / count for name, count in counts.items()}
        if len(lists) >= least_shown and any(worth.values()):
            # An id of one word, as TREC's files need it, that is the same whenever the log is read.
            best, key = max(worth.values()), f"c{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            queries.append(Query(text, key, {"shown": len(lists)}))
            judgements[key] = {document: round(HIGHEST * value / best) for document, value in worth.items()}
    if not queries:
        do = f"give a longer log, or require fewer than {least_shown} lists of a query (--least)"
        raise EvaluationError("no query was shown and clicked often enough", got=f"{len(by_query)} queries", do=do)
    return queries, Qrels(judgements, "clicks")


_Place = tuple[str, str, int]  # query, document, rank from 1


def _rates(shown: Mapping[_Place, int], clicks: Mapping[_Place, int], rank: int) -> dict[tuple[str, str], float]:
    """The share of clicks at one rank, for each query and document that was shown there."""
    return {(q, d): clicks[q, d, rank] / count for (q, d, at), count in shown.items() if at == rank}
