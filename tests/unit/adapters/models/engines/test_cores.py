"""Cores of several processes: each core once, those of a process on one NUMA node where there are enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych_adapters.engines.cores import shares, usable


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Two sockets whose second threads are counted after all first ones, as Linux mostly does; node 10 after node 2."""
    for name, cores in {"node10": "4-7,12-15\n", "node2": "0-3,8-11\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(cores, encoding="ascii")
    (tmp_path / "possible").write_text("2,10\n", encoding="ascii")
    return tmp_path


def test_processes_have_cores_of_one_node_each(nodes: Path) -> None:
    assert shares(2, range(16), nodes) == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    assert shares(4, range(16), nodes) == [[0, 1, 2, 3], [8, 9, 10, 11], [4, 5, 6, 7], [12, 13, 14, 15]]


def test_only_cores_that_may_be_used_are_shared_out_and_each_once(nodes: Path) -> None:
    assert shares(2, [1, 5, 9, 13, 14], nodes) == [[1, 9, 5], [13, 14]]
    assert shares(3, range(8), nodes / "none") == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_more_processes_than_cores_share_them(nodes: Path) -> None:
    assert shares(3, [4, 0], nodes) == [[0], [4], [0]]


def test_all_that_this_process_may_use_is_shared_out() -> None:
    assert sorted(core for own in shares(1) for core in own) == usable()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_keeps_to_its_cores() -> None:
    core = usable()[-1]
    program = f"from diptych_adapters.engines.cores import keep_to, usable; keep_to([{core}]); print(usable())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{core}]"
