"""Chooses cores for each of several processes: those of one NUMA node, whose memory they reach fastest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

SYSTEM, TASKS = Path("/sys/devices/system"), Path("/proc/self/task")


def shares(processes: int, cores: Iterable[int] | None = None, system: Path = SYSTEM) -> list[list[int]]:
    """The cores for each process, by Linux's numbers; both threads of a core stay together where the counts allow it.

    With fewer processes than nodes, a process gets cores of several nodes; with more than cores, processes share cores.

    Args:
        processes: number of processes.
        cores: to distribute; by default all that this process may use.
        system: the folder in which Linux lists the cores of each node.
    """
    nodes = _by_node(usable() if cores is None else cores, system)
    if processes < len(nodes):
        nodes = [[core for node in nodes for core in node]]
    counts = [1] * len(nodes)
    for _ in range(processes - len(nodes)):  # the node whose processes have the most cores takes one more
        counts[max(range(len(nodes)), key=lambda place: len(nodes[place]) / counts[place])] += 1
    return [part for node, count in zip(nodes, counts, strict=True) for part in _split(node, count)]


def usable() -> list[int]:
    """The cores that this process may use, even if this thread is bound to one of them."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted({core for allowed in _each_thread(os.sched_getaffinity) for core in allowed})


def keep_to(cores: Sequence[int]) -> None:
    """Bind all threads of this process to these cores, if the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        list(_each_thread(lambda thread: os.sched_setaffinity(thread, cores)))


def _each_thread(call: Callable[[int], set[int] | None]) -> Iterator[set[int]]:
    """Apply a call to each thread of this process; ignores threads that just ended and cores that were taken away."""
    threads = [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else [0]
    for thread in threads:
        with contextlib.suppress(OSError):
            yield call(thread) or set()


def _by_node(cores: Iterable[int], system: Path) -> list[list[int]]:
    """The cores of each node that has any, the threads of one core next to each other."""
    files = sorted(system.glob("node/node[0-9]*/cpulist"), key=lambda file: int(file.parent.name.removeprefix("node")))
    node = {core: index for index, file in enumerate(files) for core in _parsed_list(file.read_text(encoding="ascii"))}
    groups: dict[int, list[int]] = {}
    for core in sorted(cores, key=lambda core: (node.get(core, len(files)), _physical(core, system), core)):
        groups.setdefault(node.get(core, len(files)), []).append(core)
    return list(groups.values())


def _physical(core: int, system: Path) -> int:
    file = system / "cpu" / f"cpu{core}" / "topology" / "core_id"
    return int(file.read_text(encoding="ascii")) if file.is_file() else core


def _split(cores: Sequence[int], processes: int) -> list[list[int]]:
    if processes > len(cores):
        return [[cores[index % len(cores)]] for index in range(processes)]
    return [sorted(part.tolist()) for part in np.array_split(cores, processes)]


def _parsed_list(text: str) -> list[int]:
    """The numbers in a list such as 0-3,8-11."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return [number for first, *last in ends for number in range(int(first), int((last or [first])[0]) + 1)]
