"""The examples run as a user runs them; the demo gives the figures that exact search gives elsewhere."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {"BM25": 0.800, "MiniLM": 0.816, "MiniLM, exact": 0.816, "BM25 + MiniLM (RRF)": 0.828}
LATE = {"... then late interaction": 0.886}
ROW = re.compile(r"^│ (?P<name>[^│]+?) +│ +(?P<ndcg>0\.\d{3}) │", re.MULTILINE)


def run(script: Path, folder: Path) -> str:
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def words(output: str) -> str:
    return " ".join(output.split())


def figures(output: str) -> dict[str, float]:
    return {match["name"]: float(match["ndcg"]) for match in ROW.finditer(output)}


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs_and_says_something(script: Path, tmp_path: Path) -> None:
    assert run(script, tmp_path).strip()
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"


@pytest.mark.parametrize("folder", ["qdrant_client"])
def test_two_lines_bring_diptych_into_a_documented_program(folder: str, tmp_path: Path) -> None:
    before, after = EXAMPLES / folder / "before.py", EXAMPLES / folder / "after.py"
    lines = difflib.ndiff(before.read_text().splitlines(), after.read_text().splitlines())
    changed = [line[0] for line in lines if line.startswith(("+ ", "- ")) and line[2:].strip()]
    assert (changed.count("-"), changed.count("+")) == (2, 2)
    assert run(before, tmp_path).strip()
    assert "sound processing" in run(after, tmp_path).splitlines()[0]
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"


@pytest.mark.slow
def test_the_demo_gives_its_figures_and_encodes_nothing_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "debian"
    shutil.copytree(EXAMPLES / "debian", folder, ignore=shutil.ignore_patterns("qdrant"))
    first = run(folder / "demo.py", tmp_path)
    assert "2000 new, 0 changed, 0 unchanged" in words(first)
    assert figures(first) == pytest.approx(EXPECTED | LATE, abs=0.01)
    second = run(folder / "demo.py", tmp_path)
    assert "0 new, 0 changed, 2000 unchanged. Encoded: nothing." in words(second)
    assert figures(second) == pytest.approx(figures(first), abs=0.004), "equal scores may come in another order"
