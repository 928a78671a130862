"""Nothing that a real server has acknowledged is lost when it is killed around a swap.

    DIPTYCH_TEST_SERVER_BINARY=/path/to/qdrant DIPTYCH_TEST_CRASHES=20 pytest tests/server

DIPTYCH_TEST_CRASHES is how often each test kills the server, 2 unless given; DIPTYCH_TEST_FLUSH the flush interval in
seconds, 1 unless given, Qdrant's own being 5; DIPTYCH_TEST_SEED the first seed, 0 unless given. Only a kill that comes
while documents are written counts, and a test without one fails.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crash_trial import WORK, crash, settled
from qdrant_process import QdrantProcess

SEED = int(os.environ.get("DIPTYCH_TEST_SEED", "0"))
SEEDS = range(SEED, SEED + int(os.environ.get("DIPTYCH_TEST_CRASHES", "2")))
FLUSH = int(os.environ.get("DIPTYCH_TEST_FLUSH", "1"))
LASTS = {"populate": 4.0, "apply": 4.0}  # seconds that the work takes, roughly
WAITS = 4.0 + 3 * FLUSH  # where it waits before it drops a vector
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(0)]


@pytest.mark.parametrize("when", ["after a vector was dropped", "at any moment"])
@pytest.mark.parametrize("work", list(WORK))
def test_no_document_is_lost_by_a_crash(server: QdrantProcess, tmp_path: Path, work: str, when: str) -> None:
    found, lasts = [], LASTS.get(work, WAITS) if when == "at any moment" else None
    for seed in SEEDS:
        found.append(crash(server, work, flush=FLUSH, seed=seed + 1000 * (lasts is not None), lasts=lasts))
        print(f"{work}, seed {seed}: {found[-1]}")
        server.renew(tmp_path / f"again-{seed}")
    print(f"{work}, {when}: {settled(found)}")
