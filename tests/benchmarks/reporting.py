"""docs/research/performance.md, out of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from figures import Figure, Result
from growth_plot import plot_growth
from machine import arithmetic

INTRODUCTION = """\
# Performance

`make bench` writes this page from `docs/research/performance.json`; change neither by hand. To measure your machine:

```sh
make bench                        # all; a run that was cut off continues where it stopped
make bench ONLY=encode,populate   # some of it, whether measured already or not
make bench QUICK=1                # a try with few documents, written to build/bench/quick
make bench MILLION=1              # the growth to 1,000,000 points too
DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant make bench     # a Qdrant server too
```

It takes about an hour on two cores, on an otherwise idle machine. The first run installs the other libraries below
`.venv-bench` (some minutes, 6 GB). A test collection missing from `$DIPTYCH_DATA` is replaced by `examples/debian`.

The page shows what had a target: median [least, most] of the rounds. All figures, notes, commits and versions are in
`performance.json`. Both sides of a ratio run in turn on the same cores with the same
number of threads, after a round that does not count. A ratio marked × is above 1 where diptych is faster. AMX and
AVX-512 are the arithmetic of the processor: AMX multiplies matrices in bfloat16 and int8, AVX-512 in int8 alone.
"""
NOTHING = "\nNothing was measured yet.\n"
IMAGE = Path("images") / "growth.png"


def write_page(found: Mapping[str, Any], docs: Path) -> None:
    """The page, and the plot when there is growth to show."""
    docs.mkdir(parents=True, exist_ok=True)
    plotted = plot_growth(_grown(_results(found)), docs / IMAGE)
    (docs / "performance.md").write_text(page(found, plotted=plotted), encoding="utf-8")


def page(found: Mapping[str, Any], *, plotted: bool) -> str:
    """The page of results by step; each is a `Result` as JSON, or the note of one that failed."""
    if not found:
        return INTRODUCTION + NOTHING
    results = _results(found)
    plot = ["\n## How cost grows\n", f"![Cost by size of the collection]({IMAGE.as_posix()})\n"] if plotted else []
    failed = [
        f"\n**Not measured:** `{data['command']}` failed with exit code {data['failed']}.\n"
        for data in found.values()
        if "failed" in data
    ]
    return "\n".join([INTRODUCTION, *failed, *plot, *_sections(results)])


def _results(found: Mapping[str, Any]) -> list[Result]:
    return [Result.of(data) for data in found.values() if "failed" not in data]


def _grown(results: Sequence[Result]) -> list[Figure]:
    """The figures by size; ways are told apart by the processor where several have measured some."""
    on = {arithmetic(result.machine) for result in results if any(figure.at for figure in result.figures)}
    return [
        replace(figure, way=f"{figure.way}, {arithmetic(result.machine)}") if len(on) > 1 else figure
        for result in results
        for figure in result.figures
    ]


def _sections(results: Sequence[Result]) -> Iterable[str]:
    """A section for each title, with a column for each processor that measured it."""
    for title in dict.fromkeys(result.title for result in results):
        same = [result for result in results if result.title == title]
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for result in same:
            for figure in (figure for figure in result.figures if figure.wanted):
                cell = f"{_spread(figure)} ({figure.wanted}{'' if figure.met else ', **missed**'})"
                rows.setdefault((figure.name, figure.side), {})[arithmetic(result.machine)] = cell
        if not rows:
            continue
        on = list(dict.fromkeys(arithmetic(result.machine) for result in same))
        yield f"\n## {title}\n"
        yield from (line for result in same for line in _origin(result))
        cells = [[name, side, *(by.get(one, "") for one in on)] for (name, side), by in rows.items()]
        yield "\n" + _table(("figure", "way", *on), cells)


def _origin(result: Result) -> Iterable[str]:
    """Command, date and machine."""
    cpu = result.machine.get("cpu", "")
    yield f"- {arithmetic(result.machine)} ({cpu}): `{result.command}`, {result.threads} threads, {result.date}"


def _spread(figure: Figure) -> str:
    """Median, least and most with their unit; of a single value the value."""
    unit = "" if figure.unit in ("", "x") else f" {figure.unit}"
    sign = "×" if figure.unit == "x" else ""
    if len(figure.values) == 1:
        return f"{_number(figure.median, figure.unit)}{sign}{unit}"
    middle, least, most = (_number(n, figure.unit) for n in (figure.median, min(figure.values), max(figure.values)))
    return f"{middle}{sign} [{least}, {most}]{unit}"


def _number(value: float, unit: str) -> str:
    """Three digits that count; of a cosine or nDCG five, since they tell it from 1."""
    if unit in ("cosine", "nDCG@10"):
        return f"{value:.5f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
