"""Which cores each of several processes keeps to: those of one NUMA node, whose memory they reach fastest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

NODES = Path("/sys/devices/system/node")


def shares(processes: int, cores: Iterable[int] | None = None, nodes: Path = NODES) -> list[list[int]]:
    """The cores of each process; of more processes than cores, several have the same.

    Args:
        processes: how many there are.
        cores: those that are shared out; those that this process may use unless given.
        nodes: where Linux tells which core is on which node.
    """
    known = {core: place for place, core in enumerate(_by_node(nodes))}
    order = sorted(usable() if cores is None else cores, key=lambda core: (known.get(core, len(known)), core))
    if processes > len(order):
        return [[order[place % len(order)]] for place in range(processes)]
    return [own.tolist() for own in np.array_split(order, processes)]


def usable() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_to(cores: Sequence[int]) -> None:
    """Run on these cores from now on, where the system lets a process say so."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # cores may have been taken away meanwhile
            os.sched_setaffinity(0, cores)


def _by_node(nodes: Path) -> list[int]:
    """All cores, node after node; none where nothing is told."""
    files = sorted(nodes.glob("node[0-9]*/cpulist"), key=lambda file: int(file.parent.name.removeprefix("node")))
    return [core for file in files for core in _listed(file.read_text(encoding="ascii"))]


def _listed(text: str) -> list[int]:
    """The numbers of a list such as 0-3,8-11."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return [number for first, *last in ends for number in range(int(first), int((last or [first])[0]) + 1)]
