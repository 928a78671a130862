"""A process that edits long documents is killed again and again: no passage of an earlier text stays, none is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych_edge import EdgeClient

pytestmark = pytest.mark.slow
Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
EDITS, KILLS = int(os.environ.get("DIPTYCH_PASSAGE_EDITS", "600")), int(os.environ.get("DIPTYCH_PASSAGE_KILLS", "4"))
BATCH, SIZE = 20, 200
PROGRAM = f"""
import random, sys
from diptych import Collection, Document, Registry
from diptych.config.models import Config
from diptych.testing import fakes_plugin

store, log, edits, clean = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "clean"
passages = {{"tokens": 24, "overlap": 4}}
slots = {{"dense": {{"adapter": "fake-dense", "passages": passages}}, "lexical": {{"adapter": "fake-sparse"}}}}
place = {{"store": f"edge:{{store}}", "collection": "c"}}
config = Config.model_validate({{**place, "slots": slots, "populate": {{"chunk": 8}}}})

def document(number, version):
    chance = random.Random(f"{{number}} {{version}}")
    words = [f"w{{chance.randrange(300)}}" for _ in range(chance.randint(5, 200))]
    text = " ".join(f"{{w}}." if n % 9 == 8 else w for n, w in enumerate(words))
    return Document(str(number), text, f"Title {{number}}")

def batch(turn):
    chance = random.Random(turn)
    return chance.sample(range({SIZE}), {BATCH}), chance.sample(range({SIZE}), 2)

turns = edits // {BATCH}
with Collection.open(config, registry=Registry(fakes_plugin, installed=False)) as collection:
    if clean:
        held = {{number: 0 for number in range({SIZE})}}
        for turn in range(1, turns + 1):
            edited, deleted = batch(turn)
            held.update(dict.fromkeys(edited, turn))
            held = {{number: version for number, version in held.items() if number not in deleted}}
        collection.populate(document(*own) for own in held.items())
    else:
        with open(log, "a+") as told:
            told.seek(0)
            done = told.readlines()
            for turn in range(len(done), turns + 1):
                edited, deleted = batch(turn) if turn else (range({SIZE}), [])
                collection.populate(document(number, turn) for number in edited)
                if deleted:
                    collection.delete([str(number) for number in deleted])
                print(turn, file=told, flush=True)
"""


def start(folder: Path, edits: int = EDITS, how: str = "edits") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "store"), str(folder / "log"), str(edits), how]
    )


def test_edits_and_kills_leave_what_a_clean_build_leaves(tmp_path: Path, contents: Contents) -> None:
    chance, log, kills = random.Random(4), tmp_path / "log", 0
    while True:
        process = start(tmp_path)
        before = log.read_text().count("\n") if log.exists() else 0
        wanted = before + max(1, (EDITS // BATCH - before) // (KILLS - kills + 1))
        while kills < KILLS and process.poll() is None and (not log.exists() or log.read_text().count("\n") < wanted):
            time.sleep(0.002)
        if kills < KILLS and process.poll() is None:
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
            kills += 1
        if process.wait(timeout=600) == 0:
            break
    clean = tmp_path / "clean"
    clean.mkdir()
    assert start(clean, how="clean").wait(timeout=600) == 0
    assert kills == KILLS
    with EdgeClient(tmp_path / "store") as found, EdgeClient(clean / "store") as expected:
        assert contents(found) == contents(expected)
        assert len(contents(found)) > SIZE // 2
