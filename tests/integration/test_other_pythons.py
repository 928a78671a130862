"""The newest other Python at hand installs diptych without extras and passes the tests of its core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEWEST, OLDEST = 14, 11
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "pandas", "ir-measures", "scipy")
SUITES = ("core", "registry", "search")


def other_python() -> str | None:
    """The newest interpreter of another version, on the path or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(NEWEST, OLDEST - 1, -1):
        on_path = shutil.which(f"python3.{minor}")
        for found in [*filter(None, [on_path]), *map(str, pyenv.glob(f"versions/3.{minor}.*/bin/python"))]:
            # What is on the path may be pyenv's stand-in for a version that is not chosen, which fails.
            runs = subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0
            if runs and minor != sys.version_info.minor:
                return found
    return None


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_another_python_passes_the_tests_of_the_core(tmp_path: Path) -> None:
    python = other_python()
    if python is None:
        pytest.skip("no other Python from 3.11 to 3.14 is installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert run(python, "-m", "venv", str(tmp_path)).returncode == 0
    own = str(tmp_path / ("Scripts" if os.name == "nt" else "bin") / "python")
    installed = run(own, "-m", "pip", "install", "--quiet", "--no-compile", "--editable", ".", *TOOLS)
    if "No matching distribution" in installed.stderr or "Temporary failure" in installed.stderr:
        pytest.skip(f"{python} cannot install what diptych needs: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr
    folders = [f"tests/unit/{name}" for name in SUITES]
    passed = run(own, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *folders)
    assert passed.returncode == 0, passed.stdout[-5000:]
