"""The result of `tune_encoder`: a row for each way to encode, cut and store, what is chosen, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.repr_html import ReprHtml
from diptych_lab.tune.choose import LEAST, Against
from diptych_lab.tune.grid import Setup

NOW = "now"  # the name of the encoder that serves


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """An encoder that is tried.

    Args:
        name: in tables.
        adapter, options: as a slot of the config names them.
        documents: whether it may encode documents; a student encodes queries only.
    """

    name: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    documents: bool = True


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One combination that was tried.

    Args:
        documents, queries: names of the encoders of each side.
        width: leading numbers of a vector that are kept; `cut` says whether these are not all.
        setup: how the vectors are stored and searched.
        value: mean nDCG@10; `error` is its standard error.
        overlap: mean share of the present first ten, by exact search, that it finds.
        milliseconds: median time to encode a query and to search; `encoding` is the first part.
        size: bytes of the numbers of a vector that a search reads; originals of quantized ones are extra, on disk.
        front: whether no row is at least as good in value, time and bytes, and better in one of them.
    """

    documents: str
    queries: str
    width: int
    cut: bool
    setup: Setup
    value: float
    error: float
    overlap: float
    milliseconds: float
    encoding: float
    size: int
    front: bool = False

    @property
    def name(self) -> str:
        """Encoders, width and storage in a few words."""
        encoders = self.queries if self.queries == self.documents else f"{self.queries} over {self.documents}"
        asked = "" if self.setup.asked == "default" else f", {self.setup.asked}"
        return f"{encoders}, {self.width} numbers, {self.setup.stored}{asked}"


@dataclass(frozen=True, slots=True)
class EncoderBudget:
    """The limits of a query and of a vector.

    Args:
        milliseconds: longest median time to encode a query and search.
        size: most bytes of a vector that a search reads.
    """

    milliseconds: float | None = None
    size: int | None = None

    def fits(self, row: EncoderRow) -> bool:
        """Whether the row is fast and small enough."""
        return self.share(row) <= 1

    def share(self, row: EncoderRow) -> float:
        """How much of the budget the row takes, by the limit that it is nearest to or exceeds most; 0 without one."""
        limited = ((row.milliseconds, self.milliseconds), (row.size, self.size))
        return max((cost / limit if limit else math.inf for cost, limit in limited if limit is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class EncoderReport(ReprHtml):
    """What `tune_encoder` found.

    Args:
        collection, slot: whose vectors.
        queries: judged ones that were asked.
        sample, documents: documents that were searched, and that the collection holds.
        choices: the encoders by name, the present one first.
        rows: one for each way; the last is the present one.
        present, chosen: places of the present row and of the chosen one.
        gain: of the choice over the present row, on queries that did not choose; None if there are too few.
        fits: whether the present row is within the budget; `reached`: whether any row is.
        passed: whether the choice should replace the present row.
        left_out: pairs of encoders, the documents' first, that do not share a space.
        confidence: of the gain's interval.
        seconds: how long it took.
    """

    collection: str
    slot: str
    queries: int
    sample: int
    documents: int
    choices: Mapping[str, EncoderChoice]
    rows: tuple[EncoderRow, ...]
    present: int
    chosen: int
    gain: Against | None
    fits: bool
    reached: bool
    passed: bool
    left_out: tuple[tuple[str, str], ...]
    confidence: float
    seconds: float

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        chosen = self.rows[self.chosen]
        if not self.reached:
            costs = f"{chosen.milliseconds:.2f} ms and {chosen.size} bytes"
            return f"nothing is within the budget; the nearest to it is {chosen.name}, {costs}"
        if self.queries < LEAST:
            return f"{self.queries} judged queries are too few to choose by: at least {LEAST} are needed"
        if self.chosen == self.present or self.gain is None:
            return "the present way is the best within the budget: it stays"
        interval = f"{self.confidence:.0%} interval [{self.gain.low:+z.4f}, {self.gain.high:+z.4f}]"
        figures = f"{chosen.name}: nDCG@10 {self.gain.mean:+z.4f} on held-out queries, {interval}"
        if not self.fits:
            return f"{figures}; it is the best within the budget, which the present way exceeds"
        if self.passed:
            return f"{figures}; it is better than the present way"
        return f"{figures}; it is not shown to be better, so the present way stays unless it is to cost less"
