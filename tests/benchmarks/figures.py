"""What a benchmark found, as JSON: one form for all scripts, from which the report is written.

A script builds a `Result` and, given `--json FILE`, writes it there:

    {"title": "Encoding documents",                heading in the report
     "command": "bench_peers.py encode --rounds 5",  what was run, below tests/benchmarks
     "date": "2026-11-25 14:02 UTC",
     "threads": 2,                                 of each side
     "machine": {"cpu": ..., "cores": 2, ...},     see machine.py
     "versions": {"diptych": {"torch": "2.13.0"}, "langchain": {...}},   packages of each side that had an environment
     "notes": ["400 documents of cranfield"],      what a reader must know: sizes, what was left out, what is not alike
     "figures": [
       {"name": "documents a second",              what was measured
        "way": "openvino bfloat16",                how diptych did it
        "against": "sentence-transformers",        whose time the ratio is taken to; "" for an amount of its own
        "unit": "x",                               "x" for a ratio, where more is better for diptych
        "values": [2.51, 2.48, 2.60],              one by round, or one alone
        "wanted": ">= 2.5",                        "" when nothing is wanted of it
        "at": null,                                size of the collection in points, for the plot of growth
        "median": 2.51, "least": 2.48, "most": 2.60, "met": true}]}    worked out of the above when written
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from machine import cores, facts

RATIO = "x"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure by round; see the module's docstring."""

    name: str
    way: str
    unit: str
    values: Sequence[float]
    against: str = ""
    wanted: str = ""
    at: int | None = None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is as wanted; None when nothing is wanted."""
        if not self.wanted:
            return None
        sign, bound = self.wanted.split()
        return bool(self.median >= float(bound) if sign == ">=" else self.median <= float(bound))  # not numpy's

    @property
    def side(self) -> str:
        """Whose figure this is: the way, what it is compared with, and the size."""
        against = f" against {self.against}" if self.against else ""
        return self.way + against + (f", {self.at:,} points" if self.at is not None else "")

    def to_data(self) -> dict[str, Any]:
        spread = {"median": self.median, "least": min(self.values), "most": max(self.values), "met": self.met}
        return {**asdict(self), "values": list(self.values), **spread}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Figure:
        return cls(**{name: data[name] for name in ("name", "way", "unit", "values", "against", "wanted", "at")})


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a script found; see the module's docstring."""

    title: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    threads: int = field(default_factory=cores)
    command: str = field(default_factory=lambda: command_line(sys.argv))
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    machine: Mapping[str, Any] = field(default_factory=facts)

    def write(self, path: Path | None) -> None:
        """Print the figures; keep them in the file, when there is one."""
        for figure in self.figures:
            print(line(figure))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = {**asdict(self), "figures": [figure.to_data() for figure in self.figures]}
            path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Result:
        return cls(**{**data, "figures": [Figure.of(figure) for figure in data["figures"]]})


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times faster we were, by round, out of seconds."""
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def line(figure: Figure) -> str:
    """A figure as one line for a terminal."""
    least, most = min(figure.values), max(figure.values)
    wanted = {None: "", True: f"; wanted {figure.wanted}: met", False: f"; wanted {figure.wanted}: MISSED"}[figure.met]
    return (
        f"{figure.name}, {figure.side}: {figure.median:.4g} {figure.unit} [{least:.4g}, {most:.4g}],"
        f" n={len(figure.values)}{wanted}"
    )


def command_line(words: Sequence[str]) -> str:
    """The command without what only says where the result goes."""
    kept, skip = [Path(words[0]).name], False
    for word in words[1:]:
        if not skip and word != "--json":
            kept.append(word)
        skip = word == "--json"
    return shlex.join(kept)
