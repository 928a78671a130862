"""A test's Ctrl-C in a process of its own: where it went wrong in a test runner's process, that would die of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def interrupted(program: Path) -> str:
    """What a test file prints that is run as a program and presses Ctrl-C on itself."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()
