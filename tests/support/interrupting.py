"""A test's Ctrl-C, or kill, in a process of its own: a test runner's process would die of one that went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def interrupted(program: Path, *arguments: str) -> str:
    """What a test file prints that is run as a program, in which it presses Ctrl-C on itself or kills its children."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()
