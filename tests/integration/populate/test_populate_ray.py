"""Populate on a Ray of this machine: what it leaves is what threads leave, also when a worker is killed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.config import Config
from diptych.errors import MissingExtra
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.populate.ray_engine import RayEngine
from diptych.stores import open_store
from ray_parts import DEADLY, registry

pytestmark = pytest.mark.slow(first=True)

Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
PROGRAM = """
import dataclasses, json, os, sys
import ray
from ray_parts import registry
from diptych import Collection
from diptych.config import Config
from diptych.errors import DiptychError
from diptych.populate.ray_engine import RayEngine

os.environ["OWNER"] = str(os.getpid())  # before workers start, which inherit it
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         object_store_memory=80_000_000, _plasma_directory=sys.argv[1])
for line in sys.stdin:
    task, reports = json.loads(line), []
    os.chdir(task["folder"])
    engine = RayEngine(workers=2, cpus=0.5, registry=registry, window=task["window"])
    for corpus in task["corpora"]:
        with Collection.open(Config.model_validate(task["config"]), registry=registry()) as collection:
            try:
                reports.append(dataclasses.asdict(collection.populate(corpus, engine=engine)))
            except DiptychError as error:
                reports.append({"error": str(error)})
    print(json.dumps(reports), flush=True)
"""


class WithRay:
    """A program that populates with a Ray of its own, which starts once for the tests of this file."""

    def __init__(self, folder: Path) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._said = folder / "said"
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": paths},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def populate(self, raw: dict[str, Any], corpora: list[Any], folder: Path, window: int = 5) -> list[dict[str, Any]]:
        """What it reports of each corpus, one after another."""
        assert self._process.stdin
        assert self._process.stdout
        task = {"config": raw, "corpora": corpora, "folder": str(folder), "window": window}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("["):
                found: list[dict[str, Any]] = json.loads(line)
                return found
        raise AssertionError(self._said.read_text()[-3000:])

    def close(self) -> None:
        """End it, and its Ray."""
        self._process.communicate(timeout=120)


@pytest.fixture(scope="module")
def with_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithRay]:
    pytest.importorskip("ray")
    started = WithRay(tmp_path_factory.mktemp("ray"))
    yield started
    started.close()


def config(store: str, folder: Path, **dense: Any) -> dict[str, Any]:
    dense = {"adapter": "mortal", "dimension": 16, "nan_word": "nan", "grave": str(folder / "grave"), **dense}
    slots = {
        "dense": {"max_tokens": 2, **dense},  # so that workers have something to tell of what is unread
        "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    }
    own = {"chunk": 32, "retries": 0}
    return {"store": store, "collection": "c", "slots": slots, "populate": own, "cache": {"enabled": False}}


def corpus(size: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"id": i, "text": f"word{i % 17} word{i % 23} number{i}", "section": i % 3} for i in range(size)
    ]
    found[40]["text"] += f" {DEADLY}"
    return [*found, found[3], {"id": "empty", "text": ""}, {"id": "bad", "text": "one nan"}]


def with_threads(corpora: list[Any]) -> tuple[list[dict[str, Any]], QdrantBase]:
    """The same by the usual engine, in memory."""
    client, reports = open_store("memory:"), []
    for documents in corpora:
        (Path.cwd() / "grave").touch()
        own = Config.model_validate(config("memory:", Path.cwd()))
        reports.append(dataclasses.asdict(populate(CollectionHandle(client, "c", own, registry()), documents)))
    return json.loads(json.dumps(reports)), client


def told(report: dict[str, Any]) -> dict[str, Any]:
    differing = ("seconds", "report_file", "started", "encode_seconds", "encode_times")
    return {name: value for name, value in report.items() if name not in differing}


# A window has workers of its own.
@pytest.mark.parametrize(("store", "window"), [("edge", 5), pytest.param("server", 10, marks=pytest.mark.long)])
def test_ray_leaves_what_threads_leave_although_a_worker_is_killed(
    store: str, window: int, tmp_path: Path, small_server: Callable[..., Any], contents: Contents, with_ray: WithRay
) -> None:
    server = small_server() if store == "server" else None
    changed = [document | {"text": f"{document['text']} again"} for document in corpus(120)[:30]]
    corpora = [corpus(120), changed, changed]
    raw = config(server.url if server else f"edge:{tmp_path}/qdrant", tmp_path)
    reports = with_ray.populate(raw, corpora, tmp_path, window)
    assert (tmp_path / "grave").read_text().isdigit()
    expected, memory = with_threads(corpora)
    assert [told(report) for report in reports] == [told(report) for report in expected]
    assert [(r["new"], r["changed"], r["unchanged"], r["set_aside"]) for r in reports] == [
        (120, 0, 0, 2), (0, 30, 0, 0), (0, 0, 30, 0),
    ]  # fmt: skip
    if server is None:
        with Collection.open(Config.model_validate(raw), registry=registry()) as collection:
            assert_same(contents(collection.client), contents(memory))
    else:
        assert_same(contents(server.store), contents(memory))
        assert len({body["points"][0]["id"] for m, p, body in server.requests if m == "PUT" and "/points" in p}) >= 8


def assert_same(found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    assert found.keys() == expected.keys()
    for point, (payload, vectors) in expected.items():
        assert found[point][0] == payload
        assert found[point][1]["dense.1"] == pytest.approx(vectors["dense.1"], abs=1e-6)
        assert found[point][1]["lexical.1"][1] == pytest.approx(vectors["lexical.1"][1], abs=1e-6)


def test_an_encoder_that_fails_in_a_worker_ends_the_run_with_its_words(tmp_path: Path, with_ray: WithRay) -> None:
    (tmp_path / "grave").touch()
    raw = config(f"edge:{tmp_path}/qdrant", tmp_path, homesick=True)
    (report,) = with_ray.populate(raw, [corpus(60)], tmp_path)
    assert report["error"] == "a worker failed\n  where: a Ray worker\n  got: RuntimeError: there is no model here"


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "diptych\[ray\]"'):
        RayEngine()
