"""Any file of an embedded store may be damaged in any way: it is told, found by `verify`, or does no harm.

The environment variable DIPTYCH_DAMAGE_TRIALS says how many files are damaged, for each kind of store.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import edge_damage

TRIALS = int(os.environ.get("DIPTYCH_DAMAGE_TRIALS", "10"))  # of each kind of store; 80 for all of the 160
SEED = int(os.environ.get("DIPTYCH_DAMAGE_SEED", "0"))
GOOD = {"right", "told", "found"}


def program(*args: object, timeout: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(edge_damage.__file__), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_no_damaged_file_is_silent_or_ends_the_process(tmp_path: Path, how: str) -> None:
    store = tmp_path / "store"
    assert program("build", store, how, timeout=300).returncode == (-9 if how == "killed" else 0)
    outcomes: dict[int, tuple[str, str]] = {}
    first = 0
    while first < TRIALS:
        done = program("try", store, tmp_path / "scratch", SEED, first, TRIALS, timeout=120 + 60 * TRIALS)
        lines = [line.split("\t", 1) for line in done.stdout.splitlines()]
        for (number, what), (_, outcome) in zip(lines[::2], lines[1::2], strict=False):
            outcomes[int(number)] = what, outcome
        if len(lines) % 2:
            outcomes[int(lines[-1][0])] = lines[-1][1], f"ended with {done.returncode}: {done.stderr[-300:]}"
        first = max(outcomes, default=TRIALS) + 1
        assert lines, done.stderr
    print(Counter(outcome if outcome in GOOD else "bad" for _, outcome in outcomes.values()))
    assert not {number: found for number, found in outcomes.items() if found[1] not in GOOD}
    assert len(outcomes) == TRIALS
