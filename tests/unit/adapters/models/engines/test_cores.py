"""Cores of several processes: each core once, those of a process on one NUMA node where there are enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych_adapters.engines.workers import shares, usable


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Two nodes of four cores with two threads each; second threads are counted after all first ones, as on Linux."""
    for name, cores in {"node10": "4-7,12-15\n", "node2": "0-3,8-11\n"}.items():
        (tmp_path / "node" / name).mkdir(parents=True)
        (tmp_path / "node" / name / "cpulist").write_text(cores, encoding="ascii")
    for thread in range(16):
        folder = tmp_path / "cpu" / f"cpu{thread}" / "topology"
        folder.mkdir(parents=True)
        (folder / "core_id").write_text(f"{thread % 8}\n", encoding="ascii")
    (tmp_path / "node" / "possible").write_text("2,10\n", encoding="ascii")
    return tmp_path


def test_processes_have_cores_of_one_node_each_and_both_threads_of_them(system: Path) -> None:
    assert shares(2, range(16), system) == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    assert shares(4, range(16), system) == [[0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]]


def test_no_process_has_cores_of_two_nodes_where_there_are_enough(system: Path) -> None:
    for processes in range(2, 17):
        found = shares(processes, range(16), system)
        assert len(found) == processes
        assert sorted(core for own in found for core in own) == list(range(16))
        assert all(len({core % 8 // 4 for core in own}) == 1 for own in found)


def test_one_process_has_all_nodes(system: Path) -> None:
    assert shares(1, range(16), system) == [list(range(16))]


def test_only_cores_that_may_be_used_are_shared_out_and_each_once(system: Path) -> None:
    assert shares(2, [1, 5, 9, 13, 14], system) == [[1, 9], [5, 13, 14]]
    assert shares(3, range(8), system / "none") == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_more_processes_than_cores_share_them(system: Path) -> None:
    assert shares(5, [4, 0, 1], system) == [[0], [1], [0], [4], [4]]


def test_all_that_this_process_may_use_is_shared_out() -> None:
    assert sorted(core for own in shares(1) for core in own) == usable()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_keeps_to_its_cores_with_the_threads_that_it_has_and_will_have() -> None:
    core = usable()[-1]
    program = (
        "import os, threading\n"
        "from diptych_adapters.engines.workers import keep_to, usable\n"
        "end, found = threading.Event(), []\n"
        "def wait():\n    end.wait()\n    found.append(os.sched_getaffinity(0))\n"
        "before = threading.Thread(target=wait)\nbefore.start()\n"
        f"keep_to([{core}])\n"
        "after = threading.Thread(target=wait)\nafter.start()\n"
        "end.set()\nbefore.join()\nafter.join()\n"
        "print(usable(), found)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{core}] [{{{core}}}, {{{core}}}]"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_thread_that_is_bound_to_one_core_does_not_take_the_others_away() -> None:
    program = (
        "import os, threading\n"
        "from diptych_adapters.engines.workers import usable\n"
        "all_of_them, end = usable(), threading.Event()\n"
        "threading.Thread(target=end.wait).start()\n"
        "os.sched_setaffinity(0, all_of_them[:1])\n"
        "print(usable() == all_of_them)\n"
        "end.set()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
