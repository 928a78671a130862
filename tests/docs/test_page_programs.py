"""The documentation cannot lie: the Python of each page runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import preloaded_process
from pages import name, program, with_blocks, write_config

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", with_blocks("python"), ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    write_config(page, tmp_path)
    script = tmp_path / "page.py"
    script.write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        preloaded_process.words(script), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{name(page)}\n{done.stdout}\n{done.stderr}"
