"""A process that populates is killed again and again; what is left in the end is what a clean run leaves."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych.slots.guard import TEXTS
from diptych_edge import EdgeClient

Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
SIZE, CHUNK = 240, 16
PROGRAM = f"""
import sys
from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych_edge import EdgeClient
from diptych.testing import fakes_plugin

store, log = sys.argv[1:]
adapters = {{"dense": "fake-dense", "lexical": "fake-calibrated"}}
slots = {{n: {{"adapter": a, "dimension": 512, "delay": 0.02, "log": f"{{log}}.{{n}}"}} for n, a in adapters.items()}}
config = Config.model_validate(
    {{"collection": "c", "slots": slots, "populate": {{"chunk": {CHUNK}, "indexes": {{"section": "integer"}}}}}}
)
corpus = [{{"id": i, "text": f"word{{i % 17}} word{{i % 23}} number{{i}}", "section": i % 3}} for i in range({SIZE})]
with EdgeClient(store) as client:
    handle = CollectionHandle(client, "c", config, Registry(fakes_plugin, installed=False))
    report = populate(handle, corpus, sync=True)
assert (report.read, report.set_aside) == ({SIZE}, 0), report
print(report.unchanged, report.new, report.changed)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", PROGRAM, str(folder / "store"), str(folder / "log")]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def finish(folder: Path) -> str:
    process = start(folder)
    answer, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    return answer


def calls(folder: Path) -> int:
    return sum(path.read_text().count("\n") for path in folder.glob("log.*"))


def documents_encoded(folder: Path, slot: str) -> int:
    lines = [json.loads(line) for line in (folder / f"log.{slot}").read_text().splitlines()]
    return sum(text not in TEXTS for line in lines for text in line["inputs"] if line["side"] == "document")


def kill_after(folder: Path, more_calls: int, pause: float, stop: signal.Signals = signal.SIGKILL) -> bool:
    """Start a run and kill it a moment after its encoders have been called so often; False when it was done before."""
    target = calls(folder) + more_calls
    process = start(folder)
    while process.poll() is None and calls(folder) < target:
        time.sleep(0.002)
    time.sleep(pause)
    process.send_signal(stop)
    process.communicate()
    return process.returncode != 0


def described(client: QdrantBase) -> Any:
    """What the collection says of its slots, but for the options: they hold the path of the log."""
    slots = (client.get_collection("c").config.metadata or {})["diptych"]["live"]["slots"]
    return {name: {**generation, "options": None} for name, generation in slots.items()}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    assert finish(folder).split() == ["0", str(SIZE), "0"]
    return folder


@pytest.mark.slow
def test_kills_at_any_moment_cost_at_most_a_chunk_each(tmp_path: Path, clean: Path, contents: Contents) -> None:
    moments = random.Random(1)
    kills = sum(kill_after(tmp_path, 2, pause) for pause in (0.0, 0.012))  # while the collection is created
    kills += sum(kill_after(tmp_path, moments.randint(1, 40), moments.uniform(0, 0.03)) for _ in range(3))
    finish(tmp_path)
    assert kills >= 2
    with EdgeClient(tmp_path / "store") as found, EdgeClient(clean / "store") as expected:
        assert contents(found) == contents(expected)
        assert found.get_collection("c").payload_schema.keys() == {"section"}
        assert described(found) == described(expected)
    for slot in ("dense", "lexical"):
        assert SIZE <= documents_encoded(tmp_path, slot) <= SIZE + kills * CHUNK


def test_ctrl_c_ends_the_run_and_the_next_one_goes_on(tmp_path: Path, clean: Path, contents: Contents) -> None:
    assert kill_after(tmp_path, 30, 0.0, signal.SIGINT)
    unchanged, new, changed = map(int, finish(tmp_path).split())
    assert unchanged > 0
    assert (unchanged + new, changed) == (SIZE, 0)
    with EdgeClient(tmp_path / "store") as found, EdgeClient(clean / "store") as expected:
        assert contents(found) == contents(expected)
