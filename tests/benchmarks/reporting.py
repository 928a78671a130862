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

It takes about an hour on two cores, and should be alone on the machine. The other libraries are installed into
environments of their own below `.venv-bench` first: some minutes and 6 GB, once. Test collections are looked for below
`$DIPTYCH_DATA`; one that is not there is replaced by `examples/debian`, and the result says so.

How to read it: both sides of a ratio are measured in turn, round by round, on the same cores with the same number of
threads, after a round that does not count. A ratio is taken within a round; one marked × is above 1 where diptych is
faster. Given are the median of the rounds and, in brackets, the least and the most. *Wanted* is what the project set
itself before measuring; what is missed is printed as missed. *On* is the arithmetic of the processor, which decides
what bfloat16 and int8 gain: AMX multiplies matrices in both, AVX-512 in int8 alone, if at all. Results from one kind
of processor leave those from another.
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
    return "\n".join([INTRODUCTION, _overview(results), *failed, *plot, *map(_section, results)])


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


def _overview(results: Sequence[Result]) -> str:
    rows = [
        [
            result.title,
            figure.name,
            figure.side,
            arithmetic(result.machine),
            figure.wanted,
            _spread(figure),
            "yes" if figure.met else "**missed**",
        ]
        for result in results
        for figure in result.figures
        if figure.wanted
    ]
    return "## What was wanted\n\n" + _table(("of", "figure", "way", "on", "wanted", "measured", "met"), rows)


def _section(result: Result) -> str:
    rows = [
        [figure.name, figure.side, _spread(figure), figure.wanted, str(len(figure.values))] for figure in result.figures
    ]
    parts = [
        f"\n## {result.title}, on {arithmetic(result.machine)}\n",
        *(f"- {note}" for note in result.notes),
        *_origin(result),
    ]
    if rows:
        parts.append("\n" + _table(("figure", "way", "median [least, most]", "wanted", "rounds"), rows))
    return "\n".join(parts)


def _origin(result: Result) -> Iterable[str]:
    """Command, date, machine and versions."""
    machine = ", ".join(
        f"{value}" if key == "cpu" else f"{key} {value}" for key, value in result.machine.items() if value
    )
    yield f"- {result.threads} threads on each side; {result.date}; `python tests/benchmarks/{result.command}`"
    yield f"- {machine}"
    for side, packages in result.versions.items():
        yield f"- {side}: {', '.join(f'{package} {version}' for package, version in packages.items())}"


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
