"""The page of results."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Figure, Result
from peers.venvs import ROOT
from reporting import _grown, _results, page, write_page


def data(*figures: Figure, cpu: str = "fast") -> dict[str, Any]:
    result = Result("Speed", figures, ["a small run"], {"ours": {"torch": "2"}}, 2, "bench.py", "today", {"cpu": cpu})
    return {**asdict(result), "figures": [figure.to_data() for figure in figures]}


def test_what_is_missed_is_printed_as_missed_and_what_is_met_as_met() -> None:
    found = {
        "one": data(Figure("speed", "a", "x", [1, 2, 3], "b", ">= 2"), Figure("speed", "c", "x", [1], "b", ">= 2")),
    }
    text = page(found, plotted=False)
    assert "| speed | a against b | 2× [1, 3] (>= 2) |" in text
    assert "| speed | c against b | 1× (>= 2, **missed**) |" in text


def test_a_result_tells_machine_command_threads_and_date_and_only_figures_with_a_target() -> None:
    rate, ratio = Figure("rate", "a", "1/s", [7.0]), Figure("ratio", "a", "x", [3.0], "b", ">= 2")
    text = page({"one": data(rate, ratio)}, plotted=False)
    assert "- fast (fast): `bench.py`, 2 threads, today" in text
    assert "| ratio | a against b | 3× (>= 2) |" in text
    assert "| rate |" not in text


def test_a_step_that_failed_is_named() -> None:
    text = page({"one": {"failed": 1, "command": "bench_it.py --all", "commit": "0"}}, plotted=False)
    assert "**Not measured:** `bench_it.py --all` failed with exit code 1." in text


def test_growth_is_plotted_when_there_are_two_sizes_of_a_way(tmp_path: Path) -> None:
    sizes = {n: Figure("time of a query", "Edge", "ms", [1.0, 1.2], at=n) for n in (1000, 10_000)}
    write_page({"one": data(sizes[1000])}, tmp_path)
    assert not (tmp_path / "images" / "growth.png").exists()
    write_page({"one": data(*sizes.values())}, tmp_path)
    assert (tmp_path / "images" / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "images/growth.png" in (tmp_path / "performance.md").read_text()


def test_what_two_processors_have_measured_stands_side_by_side(tmp_path: Path) -> None:
    sizes = [Figure("time", "Edge", "ms", [1.0], at=n) for n in (1000, 10_000)]
    ratio = Figure("ratio", "a", "x", [3.0], "b", ">= 2")
    found = {"one": data(ratio, *sizes), "two": data(ratio, *sizes, cpu="slow")}
    assert "| figure | way | fast | slow |" in page(found, plotted=False)
    ways = [figure.way for figure in _grown(_results(found)) if figure.at == 1000]
    assert ways == ["Edge, fast", "Edge, slow"]


def test_the_page_in_the_docs_says_what_its_figures_say() -> None:
    file = ROOT / "docs" / "research" / "performance.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    plotted = (ROOT / "docs" / "research" / "images" / "growth.png").exists()
    assert (ROOT / "docs" / "research" / "performance.md").read_text(encoding="utf-8") == page(found, plotted=plotted)
