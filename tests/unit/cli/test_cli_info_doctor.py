"""`diptych info` and `diptych doctor` say how things stand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych import Collection, Registry
from diptych.config.models import SlotConfig
from diptych.metadata.models import QueryEncoder
from diptych.metadata.store import metadata_payload
from diptych.slots.slot import Slot
from diptych.testing import fakes_plugin
from diptych_edge import EdgeClient

Run = Callable[..., Any]


READING = [
    ("search", "cat"),
    ("search", "cat", "--explain"),
    ("evaluate", "--queries", "q.jsonl", "--qrels", "q.tsv"),
    ("info",),
    ("status",),
    ("plan",),
    ("info", "--id", "cat"),
    ("tune", "index"),
]
WRITING = [  # to what is there already
    ("apply",),
    ("rollback",),
    ("finish",),
    ("delete", "cat", "--yes"),
    ("adopt",),
    ("copy", "diptych.yaml", "edge:./elsewhere"),
    ("populate", "animals.jsonl", "--dry-run"),
]


@pytest.fixture(params=["no folder", "an empty folder"])
def untouched(request: pytest.FixtureRequest, config: Path, corpus: Path, tmp_path: Path) -> Callable[[], bool]:
    """Whether everything is as it was before a command: a config whose store is not there yet, and files to read."""
    (tmp_path / "q.jsonl").write_text('{"_id": "q1", "text": "cat"}\n')
    (tmp_path / "q.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tcat\t1\n")
    if request.param == "an empty folder":
        (tmp_path / "qdrant").mkdir()
    before = sorted(tmp_path.rglob("*"))
    return lambda: sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_before_the_first_populate_says_how_to_fill_and_creates_nothing(
    run: Run, untouched: Callable[[], bool], command: tuple[str, ...]
) -> None:
    answer = run(*command, "--json")
    assert (answer.code, answer.out) == (1, "")
    assert "diptych populate SOURCE" in answer.err
    assert "CollectionNotFound" in answer.err
    assert untouched()


@pytest.mark.parametrize("command", [*WRITING, ("info", "--all"), ("doctor",), ("cache",)], ids=" ".join)
def test_no_command_but_populate_creates_a_store(
    run: Run, untouched: Callable[[], bool], command: tuple[str, ...]
) -> None:
    run(*command)
    assert untouched()


def statuses(answer: Any) -> dict[str, str]:
    return {check["name"]: check["status"] for check in answer.json()["checks"]}


@pytest.mark.parametrize(("seed", "code", "told"), [(1, 0, "ok   "), (2, 1, "fail ")])
def test_the_encoder_that_asks_instead_is_looked_at_too(
    run: Run, config: Path, corpus: Path, seed: int, code: int, told: str
) -> None:
    run("populate", corpus)
    registry = Registry(fakes_plugin, installed=False)
    with Collection.open("edge:./qdrant", "animals", registry=registry) as collection:
        metadata = collection.handle.read()
        asker = Slot("dense", SlotConfig(adapter="fake-dense", options={"seed": 1}), None, registry)
        asks = asker.describe(number=2, vector="dense.2", reading=metadata.reading, statistics=None)
        asks = asks.model_copy(update={"options": {"seed": seed}})
        live = metadata.live.model_copy(update={"asking": {"dense": QueryEncoder(generation=asks)}})
        changed = metadata.model_copy(update={"live": live})
        collection.client.update_collection("animals", metadata=metadata_payload(changed))
    answer = run("doctor")
    assert answer.code == code
    assert "ok   model of dense: " in answer.out
    assert f"{told}model of dense, queries: " in answer.out


def test_a_store_that_another_process_has_open_and_shares_is_fine(run: Run, config: Path, corpus: Path) -> None:
    run("populate", corpus)
    code = "from diptych.stores import open_store; s = open_store('edge:./qdrant'); print(1, flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        answer = run("doctor", "--json")
        other.communicate("\n")
    assert statuses(answer)["store"] == "ok"


def test_a_store_that_another_process_keeps_to_itself_fails_its_check(
    run: Run, config: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych_edge.share.client.PATIENCE", 0.2)
    run("populate", corpus)
    code = "from diptych_edge import EdgeClient as C; s = C('./qdrant', share=False); print(1, flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        answer = run("doctor", "--json")
        other.communicate("\n")
    assert statuses(answer)["store"] == "fail"
    assert "does not answer" in answer.json()["checks"][-1]["found"]


def test_a_collection_that_diptych_does_not_know_is_listed_as_that(run: Run, config: Path, corpus: Path) -> None:
    run("populate", corpus)
    with EdgeClient("qdrant") as client:
        client.create_collection("foreign", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    found = run("info", "--all", "--json").json()["collections"]
    assert [(own["name"], own["known"]) for own in found] == [("animals", True), ("foreign", False)]
    assert "diptych adopt" in run("info", "--all").out
