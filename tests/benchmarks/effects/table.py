"""The tables of effects on the pages of docs/research/methods, out of docs/research/methods/effects.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effects.running import Effect, Interval

BEGIN, END = "<!-- effects: written by run_effects.py -->", "<!-- effects: end -->"
HEAD = (
    "| what is compared | harness | metric | baseline -> method | difference [95 % over seeds] "
    "| verdict; other metrics |\n"
    "|---|---|---|---|---|---|"
)
VERDICTS = ("shown", "not shown", "opposite", "not measurable")
NOTHING = "Nothing was measured yet."


def overview(found: Mapping[str, Any], pages: Iterable[str]) -> str:
    """How many results of each page have which verdict, as a table in Markdown below a list of the pages."""
    links = "Pages: " + ", ".join(f"[{page}]({page}.md)" for page in sorted({*pages} - {"README"})) + ".\n"
    counts = Counter((one.page, one.verdict) for _, one in _all(found))
    rows = [
        f"| [{page}]({page}.md) | {' | '.join(str(counts[page, verdict] or '') for verdict in VERDICTS)} |"
        for page in sorted({page for page, _ in counts})
    ]
    head = f"| results of the page | {' | '.join(VERDICTS)} |\n|---|{'---|' * len(VERDICTS)}"
    return "\n".join([links, head, *rows]) if rows else NOTHING


def table_of(found: Mapping[str, Any], page: str) -> str:
    """The effects of one page: a row for each comparison, with figures of its first metric that could be measured.

    What could not be measured is counted below; effects.json has all figures.
    """
    own = [one for _, one in _all(found) if one.page == page]
    if not own:
        return NOTHING
    measured = [one for one in own if one.verdict != "not measurable"]
    one_method = len({one.method for one in own}) == 1
    groups: dict[tuple[str, str, str], list[Effect]] = {}
    for one in measured:
        groups.setdefault((one.method, one.compared, one.harness), []).append(one)
    rows = [_row(first, others, one_method) for first, *others in groups.values()]
    missing = len(own) - len(measured)
    note = f"\n\nNot measurable, since a condition was not met: {missing} more." if missing else ""
    return "\n".join([HEAD, *rows]) + note


def written(file: Path, found: Mapping[str, Any]) -> str:
    """A page of methods with its table: the overview in README.md, its own effects in others that have markers."""
    page, pages = file.read_text(encoding="utf-8"), [other.stem for other in file.parent.glob("*.md")]
    if file.name != "README.md" and BEGIN not in page:
        return page
    return put_into(page, overview(found, pages) if file.name == "README.md" else table_of(found, file.stem))


def write_into(folder: Path, found: Mapping[str, Any]) -> None:
    """The tables into all pages of a folder."""
    for file in folder.glob("*.md"):
        file.write_text(written(file, found), encoding="utf-8")


def put_into(page: str, text: str) -> str:
    """The page with this between the markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def line(one: Effect) -> str:
    """An effect as a line for a terminal."""
    sides = f"{number(np.mean(one.baseline))} -> {number(np.mean(one.found))}"
    told = "".join(f"; {condition.told}" for condition in one.conditions)
    return f"{one.method}: {one.compared}, {one.harness} {one.metric} {sides}, {_difference(one)}{told}: {one.verdict}"


def number(value: Any) -> str:
    """Three decimals, fewer for what is large."""
    size = abs(float(value))
    return f"{round(float(value), 3) + 0.0:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"


def _all(found: Mapping[str, Any]) -> Iterator[tuple[str, Effect]]:
    return ((script, Effect.of(one)) for script, own in sorted(found.items()) for one in own["effects"])


def _row(one: Effect, others: Iterable[Effect], one_method: bool) -> str:
    compared = one.compared if one_method else f"{one.method}: {one.compared}"
    sides = " -> ".join(number(np.mean(side)) for side in (one.baseline, one.found))
    verdict = "; ".join([_told(one.verdict), *(f"{other.metric} {_told(other.verdict)}" for other in others)])
    return f"| {' | '.join([compared, one.harness, one.metric, sides, _difference(one), verdict])} |"


def _told(verdict: str) -> str:
    return verdict if verdict == "shown" else f"**{verdict}**"


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
