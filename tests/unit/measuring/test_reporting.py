"""The page of results."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from figures import Figure, Result
from peers.venvs import ROOT
from reporting import page


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


def test_a_step_that_failed_is_named() -> None:
    text = page({"one": {"failed": 1, "command": "bench_it.py --all", "commit": "0"}}, plotted=False)
    assert "**Not measured:** `bench_it.py --all` failed with exit code 1." in text


def test_the_page_in_the_docs_says_what_its_figures_say() -> None:
    file = ROOT / "docs" / "research" / "performance.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    plotted = (ROOT / "docs" / "research" / "images" / "growth.png").exists()
    assert (ROOT / "docs" / "research" / "performance.md").read_text(encoding="utf-8") == page(found, plotted=plotted)
