"""Rounds: every way does its job once in each, in an order that moves on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

Job = Callable[[int], float]


def interleaved(jobs: Mapping[str, Job], rounds: int) -> dict[str, list[float]]:
    """What each job gave by round.

    Args:
        jobs: by name; each is given the number of the round. Round 0 warms up and does not count.
        rounds: that count.
    """
    found: dict[str, list[float]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(rounds + 1):
        for place in range(len(names)):
            name = names[(place + number) % len(names)]
            found[name].append(jobs[name](number))
    return {name: values[1:] for name, values in found.items()}


def seconds(job: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def in_rounds(bare: Sequence[float], ours: Sequence[float], rounds: int = 5) -> list[float]:
    """Ratios of medians, ours to bare, of so many stretches of calls that were made in turn."""
    size = max(1, len(bare) // rounds)
    starts = range(0, len(bare) - size + 1, size)
    return [median(ours[start : start + size]) / median(bare[start : start + size]) for start in starts]
