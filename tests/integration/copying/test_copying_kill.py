"""A copying process is killed again and again; what is left in the end is the source, and little was copied twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qdrant_client import models

from diptych_edge import EdgeClient

pytestmark = pytest.mark.slow

SIZE, BATCH = 600, 20
PROGRAM = f"""
import sys
from diptych.copying import copy_collection
from diptych_edge import EdgeClient

class Progress:
    def begin(self, stage, total):
        print("begin", stage, flush=True)
    def advance(self, stage, n):
        print("advance", n, flush=True)

with EdgeClient("source") as source, EdgeClient("target") as target:
    report = copy_collection(source, "c", target, batch={BATCH}, rate=600, progress=Progress())
    print("copied", report.copied, flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    with EdgeClient(folder / "source") as client:
        client.create_collection(
            "c",
            vectors_config={"a": models.VectorParams(size=8, distance=models.Distance.COSINE)},
            sparse_vectors_config={"s": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            metadata={"owner": "me"},
        )
        client.create_payload_index("c", "n", models.PayloadSchemaType.INTEGER)
        draw = random.Random(0)
        points = [
            models.PointStruct(
                id=i,
                vector={
                    "a": [draw.gauss(0, 1) for _ in range(8)],
                    "s": models.SparseVector(indices=[i % 7, 7 + i % 5], values=[1.0, 0.5]),
                },
                payload={"n": i},
            )
            for i in range(SIZE)
        ]
        client.upsert("c", points)
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def advanced(lines: list[str]) -> int:
    """Points that a run wrote in its first going through; the first number is what runs before had."""
    own = lines[lines.index("begin copying") + 1 :] if "begin copying" in lines else []
    until = next((at for at, line in enumerate(own) if line.startswith("begin")), len(own))
    return sum(int(line.split()[1]) for line in own[1:until])


def kill_after(folder: Path, steps: int, pause: float) -> list[str]:
    """Start a run, kill it a moment after it has told so many steps; what it told."""
    process = start(folder)
    assert process.stdout is not None
    lines = [line for _, line in zip(range(steps), process.stdout, strict=False)]
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    told = [*lines, *rest.splitlines(keepends=True)]
    return [line.strip() for line in told if line.endswith("\n")]  # the kill may tear the last one


def test_kills_at_any_moment_cost_at_most_a_batch_each(source: Path) -> None:
    moments, kills, copied = random.Random(7), 0, 0
    for most in (1, 4, 12, 25, 40):
        told = kill_after(source, moments.randint(1, most), moments.uniform(0, 0.01))
        kills += not any(line.startswith("copied") for line in told)
        copied += advanced(told)
    process = start(source)
    answer, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    copied += advanced(answer.splitlines())
    assert answer.splitlines()[-1].startswith("copied")
    assert kills >= 3
    assert SIZE - kills * BATCH <= copied <= SIZE + kills * BATCH
    with EdgeClient(source / "source") as ours, EdgeClient(source / "target") as theirs:
        (expected, _), (found, _) = (c.scroll("c", limit=SIZE + 1, with_vectors=True) for c in (ours, theirs))
        assert [(p.id, p.payload, p.vector) for p in found] == [(p.id, p.payload, p.vector) for p in expected]
        assert theirs.get_collection("c").payload_schema.keys() == {"n"}
        metadata = theirs.get_collection("c").config.metadata or {}
        assert (metadata["owner"], metadata["diptych_copy"]["stage"]) == ("me", "done")
