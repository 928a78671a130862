"""An apply that is killed, at every write it makes and at random moments, and run again ends as an undisturbed one.

One process imports everything and is forked for each apply, so that dozens of kills take seconds. Each child opens the
store, applies, and dies by SIGKILL: by its own hand after its n-th write, or by the parent's at a random moment.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych.guard import TEXTS
from diptych.stores.edge import EdgeClient

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests fork")
CHUNK = 8
SERVER = f"""
import json, os, signal, sys, time, traceback
from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.handle import CollectionHandle
from diptych.populate import populate
from diptych.stores.edge import EdgeClient
from diptych.swap import lease
from diptych.testing import fakes_plugin

registry = Registry(fakes_plugin)
lease.SETTLE = 0.0
WRITES = ("update_collection", "create_vector_name", "delete_vector_name", "update_vectors", "upsert", "set_payload",
          "batch_update_points", "delete_payload", "create_payload_index", "delete_payload_index")

class Mortal(EdgeClient):
    writes, last = 0, None

def dying(name):
    whole = getattr(EdgeClient, name)
    def call(self, *args, **kwargs):
        answer = whole(self, *args, **kwargs)
        Mortal.writes += 1
        if Mortal.writes == Mortal.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    return call

for name in WRITES:
    setattr(Mortal, name, dying(name))

def work(task):
    os.chdir(task["folder"])
    Mortal.last = task.get("last")
    config = Config.model_validate({{"collection": "c", "populate": {{"chunk": {CHUNK}}}, **task["config"]}})
    with Mortal("store") as client:
        if task["do"] == "populate":
            populate(CollectionHandle(client, "c", config, registry), task["corpus"])
            return {{}}
        opened = Collection.stored(client, "c", registry=registry)
        opened.handle.populate_config = config.populate
        if task["do"] == "apply":
            report = opened.apply(config)
            return {{"outcome": report.outcome, "writes": Mortal.writes}}
        done = getattr(opened, task["do"])()
        return {{"outcome": done.outcome, "writes": Mortal.writes}}

for line in sys.stdin:
    task = json.loads(line)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = work(task)
        except BaseException:
            answer = {{"failed": traceback.format_exc()}}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    if task.get("seconds") is not None:
        time.sleep(task["seconds"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    print(json.dumps({{"killed": os.WIFSIGNALED(status), **(json.loads(said) if said else {{}})}}), flush=True)
"""


class Processes:
    """Runs tasks in processes of their own, one after another."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DIPTYCH_CACHE": "off"},
        )

    def run(self, folder: Path, do: str, config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """What the process said, and whether it was `killed`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"folder": str(folder), "do": do, "config": config, **more}) + "\n")
        self._server.stdin.flush()
        found: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert "failed" not in found, found["failed"]
        return found

    def close(self) -> None:
        """End the process that forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


def corpus(size: int) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"word{i % 17} word{i % 23} number{i}"} for i in range(size)]


def fake(kind: str, log: str = "log", **options: Any) -> dict[str, Any]:
    return {"adapter": f"fake-{kind}", "log": log, **options}


DENSE, OTHER = fake("dense", dimension=16), fake("dense", dimension=24, seed=1, log="log.dense")
LEXICAL, COUNTS = fake("calibrated", dimension=512), fake("calibrated", dimension=256, log="log.lexical")
INDEX: dict[str, Any] = {"adapter": "qdrant-text-index"}
SWAPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "both encoders change": (
        {"slots": {"dense": DENSE, "lexical": LEXICAL}},
        {"slots": {"dense": OTHER, "lexical": COUNTS}},
    ),
    "both change side by side": (
        {"slots": {"dense": DENSE, "lexical": LEXICAL}},
        {"slots": {"dense": OTHER, "lexical": COUNTS}, "swap": {"parallel": True}},
    ),
    "a text index becomes a sparse vector": (
        {"slots": {"dense": DENSE, "lexical": INDEX}},
        {"slots": {"dense": DENSE, "lexical": COUNTS}},
    ),
    "a sparse vector becomes a text index": (
        {"slots": {"dense": DENSE, "lexical": LEXICAL}},
        {"slots": {"dense": DENSE, "lexical": INDEX}},
    ),
    "a slot is added and one dropped": (
        {"slots": {"dense": DENSE, "lexical": LEXICAL}},
        {"slots": {"dense": DENSE, "late": fake("multivector", dimension=8, log="log.late")}},
    ),
}


def filled(processes: Processes, folder: Path, config: Mapping[str, Any], size: int) -> Path:
    folder.mkdir()
    processes.run(folder, "populate", config, corpus=corpus(size))
    return folder


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def encoded(folder: Path) -> dict[str, list[str]]:
    """The documents that the new encoders read, by slot."""
    logs = {path.suffix[1:]: path.read_text().splitlines() for path in folder.glob("log.*")}
    calls = {name: [json.loads(line) for line in lines] for name, lines in logs.items()}
    return {
        name: [text for call in own if call["side"] == "document" for text in call["inputs"] if text not in TEXTS]
        for name, own in calls.items()
    }


def state(folder: Path) -> Any:
    """All that the store keeps: points with payloads and vectors, the schema, and the metadata but for times."""
    with EdgeClient(folder / "store") as client:
        points, _ = client.scroll("c", limit=10_000, with_vectors=True)
        info = client.get_collection("c")
        params = info.config.params
    metadata = {key: value for key, value in (info.config.metadata or {}).items() if value is not None}
    timeless = re.sub(r'"(when|began)": "[^"]*"', "", json.dumps(metadata, sort_keys=True))
    vectors = {point.id: _plain(point.vector) for point in points}
    payloads = {point.id: point.payload for point in points}
    return vectors, payloads, sorted(info.payload_schema), repr(params), timeless


def _plain(vectors: Any) -> Any:
    if isinstance(vectors, dict):
        return {name: _plain(vector) for name, vector in sorted(vectors.items())}
    if isinstance(vectors, models.SparseVector):
        return [vectors.indices, np.array(vectors.values, np.float32).tolist()]
    return np.array(vectors, np.float32).tolist()


GATE = {"gate": {"sample": 4}}  # what the gate measures is not the point here
SIZE = 9
THOROUGH = bool(os.environ.get("DIPTYCH_SLOW"))  # else of most swaps only every fourth write is the last


def finished(processes: Processes, folder: Path, config: Mapping[str, Any]) -> None:
    """Applied once more, to the end."""
    assert processes.run(folder, "apply", config)["outcome"] in ("cut over", "nothing to do")


@pytest.mark.parametrize("kind", SWAPS)
def test_an_apply_killed_after_any_of_its_writes_ends_as_an_undisturbed_one(
    processes: Processes, tmp_path: Path, kind: str
) -> None:
    before, after = SWAPS[kind]
    after = {**after, "swap": {**after.get("swap", {}), **GATE}}
    step = 1 if THOROUGH or kind == "both change side by side" else 4
    start = filled(processes, tmp_path / "start", before, SIZE)
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = processes.run(undisturbed, "apply", after)
    expected, calls = state(undisturbed), encoded(undisturbed)
    assert (done["outcome"], done["writes"] > 8) == ("cut over", True)
    for last in range(1 + len(kind) % step, done["writes"] + 1, step):
        folder = copied(start, tmp_path / str(last))
        assert processes.run(folder, "apply", after, last=last)["killed"]
        finished(processes, folder, after)
        assert state(folder) == expected, f"killed after write {last} of {done['writes']}"
        for slot, texts in calls.items():
            assert len(encoded(folder)[slot]) <= len(texts) + CHUNK, f"{slot}, killed after write {last}"


@pytest.mark.parametrize("step", ["rollback", "finish"])
def test_a_step_back_killed_after_any_of_its_writes_can_be_taken_again(
    processes: Processes, tmp_path: Path, step: str
) -> None:
    """Where the step had happened, so that another rollback would go forward again, the next apply clears up."""
    before, after = SWAPS["a text index becomes a sparse vector"]
    start = filled(processes, tmp_path / "start", before, SIZE)
    finished(processes, start, {**after, "swap": GATE})
    undisturbed = copied(start, tmp_path / "undisturbed")
    done = processes.run(undisturbed, step, before)
    expected = state(undisturbed)
    for last in range(1, done["writes"] + 1):
        folder = copied(start, tmp_path / str(last))
        assert processes.run(folder, step, before, last=last)["killed"]
        if not _history(folder)[-1]["what"].startswith(("rolled", "finished")):
            processes.run(folder, step, before)
        elif step == "finish":
            finished(processes, folder, {**after, "swap": GATE})
        assert _points(state(folder)) == _points(expected), f"killed after write {last} of {done['writes']}"


def test_25_kills_at_random_moments_cost_at_most_a_chunk_each_and_change_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    size, moments = 240, random.Random(7)
    before = {"slots": {"dense": DENSE, "lexical": LEXICAL}}
    slow = {"dense": {**OTHER, "delay": 0.003}, "lexical": {**COUNTS, "delay": 0.001}}
    after = {"slots": slow, "swap": GATE}
    start = filled(processes, tmp_path / "start", before, size)
    undisturbed = copied(start, tmp_path / "undisturbed")
    begin = time.perf_counter()
    finished(processes, undisturbed, after)
    whole = time.perf_counter() - begin
    expected, total = state(undisturbed), 0
    for round_ in itertools.count():
        folder, kills = copied(start, tmp_path / f"killed-{round_}"), 0
        while processes.run(folder, "apply", after, seconds=moments.uniform(0.1, 0.8) * whole)["killed"]:
            kills += 1
        assert state(folder) == expected
        for slot in ("dense", "lexical"):
            assert size <= len(encoded(folder)[slot]) <= size + kills * CHUNK
        total += kills
        if total >= 25:
            return


def _history(folder: Path) -> list[dict[str, str]]:
    with EdgeClient(folder / "store") as client:
        found: list[dict[str, str]] = (client.get_collection("c").config.metadata or {})["diptych"]["history"]
    return found


def _points(found: Any) -> Any:
    return found[:4]
