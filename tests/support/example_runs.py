"""Examples run as a user runs them, and what two versions of one differ in."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import preloaded_process

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: Path, folder: Path) -> str:
    """What an example prints; it leaves nothing behind in the folder that it runs in."""
    there = sorted(folder.iterdir())
    done = subprocess.run(
        preloaded_process.words(script), cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert sorted(folder.iterdir()) == there, "an example leaves nothing behind"
    return done.stdout


def changed_lines(folder: Path) -> int:
    """How many lines of `before.py` are others in `after.py`; none comes or goes."""
    before, after = ((folder / name).read_text(encoding="utf-8").splitlines() for name in ("before.py", "after.py"))
    lines = [line for line in difflib.ndiff(before, after) if line[2:].strip()]
    gone, come = (sum(line.startswith(sign) for line in lines) for sign in ("- ", "+ "))
    assert gone == come
    return come
