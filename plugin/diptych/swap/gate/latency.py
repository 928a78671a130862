"""The milliseconds of a query by the old and by the new pipeline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diptych.handle.snapshot import View
from diptych.handle.tenancy import whole
from diptych.search import search
from diptych.types import Query

QUERIES = 100  # asked one by one at most
_TIMES = "latency of a gate"  # of a view's `memo`


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and slow milliseconds of a query, encoding included.

    Args:
        queries: asked one by one.
        old, new: medians.
        old_p95, new_p95: what 95% of the queries do not exceed.
    """

    queries: int
    old: float
    new: float
    old_p95: float
    new_p95: float

    @property
    def ratio(self) -> float:
        """The new median over the old one."""
        return self.new / self.old

    @property
    def sentence(self) -> str:
        """The medians in words."""
        times = f"{self.old:.2f} -> {self.new:.2f} ms"
        return f"a query takes {times} ({self.ratio:.2f} times as long), median of {self.queries}"


def measure_latency(old: View, new: View, queries: Sequence[str | Query]) -> Latency:
    """Ask both views the same queries in turn; encoders are not spared by the memory of earlier queries.

    The old view's times are taken once, where the view remembers its answers: its storage may have changed since.
    """
    queries = list(dict.fromkeys(queries))[:QUERIES]
    known: list[float] | None = old.memo.get(_TIMES)
    sides: list[tuple[View, list[float] | None]] = [(old, [] if known is None else None), (new, [])]
    for query in queries:
        for view, times in sides:
            if times is not None:
                times.append(_milliseconds(view, query))
    before, after = known if known is not None else sides[0][1] or [], sides[1][1] or []
    old.memo[_TIMES] = before
    (a, b), (c, d) = (np.percentile(times, (50, 95)) for times in (before, after))
    return Latency(len(queries), float(a), float(c), float(b), float(d))


def _milliseconds(view: View, query: str | Query) -> float:
    forgetful = replace(view, search_config=view.search_config.model_copy(update={"remember": 0}))
    begin = time.perf_counter()
    search(whole(forgetful), [query], with_payload=False)
    return 1000 * (time.perf_counter() - begin)
