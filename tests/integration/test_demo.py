"""The demo gives the figures that exact search gives elsewhere. A file of its own: test runners share out files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from example_runs import EXAMPLES, run

pytestmark = pytest.mark.slow(first=True)

EXPECTED = {"BM25": 0.800, "MiniLM": 0.816, "MiniLM, exact": 0.816, "BM25 + MiniLM (RRF)": 0.828}
LATE = {"... then late interaction": 0.886}
ROW = re.compile(r"^(?P<name>\S.*?)  +(?P<ndcg>0\.\d{3})  ", re.MULTILINE)


def words(output: str) -> str:
    return " ".join(output.split())


def figures(output: str) -> dict[str, float]:
    return {match["name"]: float(match["ndcg"]) for match in ROW.finditer(output)}


def test_the_demo_gives_its_figures_and_encodes_nothing_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "debian"
    shutil.copytree(EXAMPLES / "debian", folder, ignore=shutil.ignore_patterns("qdrant"))
    first = run(folder / "demo.py", tmp_path)
    assert "2000 new, 0 changed, 0 unchanged" in words(first)
    assert figures(first) == pytest.approx(EXPECTED | LATE, abs=0.01)
    second = run(folder / "demo.py", tmp_path)
    assert "0 new, 0 changed, 2000 unchanged. Encoded: nothing." in words(second)
    assert figures(second) == pytest.approx(figures(first), abs=0.004), "equal scores may come in another order"
