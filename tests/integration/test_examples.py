"""The examples run as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from example_runs import EXAMPLES, changed_lines, run

pytestmark = pytest.mark.slow(first=True)


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_runs_and_says_something(script: Path, tmp_path: Path) -> None:
    assert run(script, tmp_path).strip()


def test_two_lines_bring_diptych_into_a_documented_program(tmp_path: Path) -> None:
    folder = EXAMPLES / "qdrant_client"
    assert changed_lines(folder) == 2
    assert run(folder / "before.py", tmp_path).strip()
    assert "sound processing" in run(folder / "after.py", tmp_path).splitlines()[0]
