"""The table of effects in docs/methods/README.md, out of docs/methods/effects.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effects.running import Effect, Interval

BEGIN, END = "<!-- effects: written by run_effects.py -->", "<!-- effects: end -->"
HEAD = (
    "| method | what is compared | harness | metric | baseline | method | difference [95 % over seeds] | over queries"
    " | verdict | `--only` |\n|---|---|---|---|---|---|---|---|---|---|"
)
NOTHING = "Nothing was measured yet."


def table(found: Mapping[str, Any], pages: Iterable[str]) -> str:
    """All effects by script, as a table in Markdown; methods are linked to the pages that there are."""
    there = set(pages)
    rows = [_row(script, Effect.of(one), there) for script, own in sorted(found.items()) for one in own["effects"]]
    return "\n".join([HEAD, *rows]) if rows else NOTHING


def put_into(page: str, written: str) -> str:
    """The page with this between the markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def write_into(file: Path, found: Mapping[str, Any]) -> None:
    """The table into the page."""
    pages = [page.stem for page in file.parent.glob("*.md")]
    file.write_text(put_into(file.read_text(encoding="utf-8"), table(found, pages)), encoding="utf-8")


def line(one: Effect) -> str:
    """An effect as a line for a terminal."""
    sides = f"{number(np.mean(one.baseline))} -> {number(np.mean(one.found))}"
    return f"{one.method}: {one.compared}, {one.harness} {one.metric} {sides}, {_difference(one)}: {one.verdict}"


def number(value: Any) -> str:
    """Three decimals, fewer for what is large."""
    size = abs(float(value))
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"


def _row(script: str, one: Effect, pages: set[str]) -> str:
    name = f"[{one.method}]({one.page}.md)" if one.page in pages else one.method
    over = "" if one.queries is None else _interval(one.queries)
    sides = [number(np.mean(side)) for side in (one.baseline, one.found)]
    verdict = one.verdict if one.verdict == "shown" else f"**{one.verdict}**"
    cells = [name, one.compared, one.harness, one.metric, *sides, _difference(one), over, verdict, f"`{script}`"]
    return f"| {' | '.join(cells)} |"


def _difference(one: Effect) -> str:
    arrow = {"higher": "", "lower": " (lower is claimed)", "equal": " (none is claimed)"}[one.better]
    return f"{_signed(one.difference)} {_interval(one.seeds)}{arrow}"


def _interval(ends: Interval) -> str:
    return f"[{_signed(ends[0])}, {_signed(ends[1])}]"


def _signed(value: float) -> str:
    """With its sign; three decimals, or what it takes to tell it from 0."""
    if value == 0:
        return "0"
    return f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.0e}"
