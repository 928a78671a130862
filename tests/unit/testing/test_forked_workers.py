"""Tests in forked workers report what they would report one after another, also where a worker dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[2] / "support"
TESTS = """
import os, signal
from pathlib import Path
import pytest

HERE = Path(__file__).parent
PARENT = int((HERE / "parent").read_text()) if (HERE / "parent").exists() else os.getpid()
(HERE / "parent").write_text(str(PARENT))
with open(HERE / "imports", "a") as file:
    file.write("imported\\n")

@pytest.fixture(scope="module")
def shared():
    yield os.getpid()
    with open(HERE / "ended", "a") as file:
        file.write(f"{os.getpid()}\\n")

def test_passes(shared, tmp_path):
    assert os.getpid() == shared != PARENT
    assert tmp_path.parent.name in ("w1", "w2")

def test_fails(shared):
    print("said by the test")
    assert shared == 0, "so it fails"

@pytest.mark.skip(reason="not today")
def test_is_skipped():
    pass

DEADLY
def test_goes_on(shared):
    assert os.getpid() != PARENT
"""
DEADLY = """
def test_dies(shared):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder: Path, *options: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-p", "forked_workers", "-p", "no:cacheprovider", "-rA", *options]
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    return done.stdout


def written(folder: Path, deadly: str = "") -> Path:
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(TESTS.replace("DEADLY", deadly if name == "test_one.py" else ""))
    return folder


def test_workers_share_one_collection_and_report_as_one_process_does(tmp_path: Path) -> None:
    said = run(written(tmp_path), "--workers", "2")
    assert "2 failed, 4 passed, 2 skipped in" in said.splitlines()[-1]
    assert said.count("so it fails") >= 2
    assert said.count("said by the test") >= 2
    assert "not today" in said
    assert (tmp_path / "imports").read_text() == "imported\n" * 2
    assert len((tmp_path / "ended").read_text().splitlines()) == 2


def test_a_worker_that_dies_costs_the_test_that_it_ran(tmp_path: Path) -> None:
    said = run(written(tmp_path, DEADLY), "--workers", "2")
    assert "the worker died while it ran this test: exit code -9" in said
    assert "FAILED test_one.py::test_dies" in said
    assert "PASSED test_one.py::test_goes_on" in said
    assert "3 failed, 4 passed, 2 skipped" in said.splitlines()[-1]


def test_a_run_stops_at_the_first_failure_when_it_should(tmp_path: Path) -> None:
    said = run(written(tmp_path), "--workers", "1", "--exitfirst")
    assert "stopping after 1 failures" in said
    assert "test_goes_on" not in said
