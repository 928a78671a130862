"""`diptych copy` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from typer.testing import CliRunner

from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.testing import fakes_plugin
from diptych_adapters import hooks
from diptych_edge import EdgeClient

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `diptych copy` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    session = Session(Registry(fakes_plugin, installed=False))
    return lambda *args: CliRunner().invoke(app, ["copy", *map(str, args)], obj=session)


@pytest.fixture
def filled(tmp_path: Path) -> None:
    """Collections "a" and "b" in `edge:./store`."""
    with EdgeClient(tmp_path / "store") as client:
        for name in ("a", "b"):
            client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
            client.upsert(name, [models.PointStruct(id=i, vector=[1.0, i]) for i in range(10)])


def test_a_collection_is_copied_and_a_second_run_has_nothing_to_do(run: Run, filled: None, tmp_path: Path) -> None:
    first = run("edge:./store", "edge:./other", "--collection", "a")
    assert (first.exit_code, first.stderr) == (0, "")
    place = f"edge:{tmp_path}"
    assert first.stdout.startswith(
        f"{place}/store, collection 'a' -> {place}/other, collection 'a'\n10 points: 10 copied"
    )
    assert "verified: every point was read on both sides and is the same" in first.stdout
    assert "nothing to do" in run("edge:./store", "edge:other", "--collection", "a").stdout
    with EdgeClient("other") as client:
        assert client.count("a").count == 10


def test_one_store_may_be_both_ends(run: Run, filled: None) -> None:
    answer = run("edge:./store", "edge:store/../store", "--collection", "a", "--as", "c")
    assert answer.exit_code == 0, answer.stderr
    assert "onto itself" in run("edge:./store", "edge:./store", "--collection", "a").stderr


def test_json_is_the_whole_report(run: Run, filled: None) -> None:
    report = json.loads(run("edge:store", "edge:other", "--collection", "b", "--batch", 3, "--json").stdout)
    assert (report["points"], report["copied"], report["passes"]) == (10, 10, 1)


def test_a_store_with_several_collections_asks_which(run: Run, filled: None) -> None:
    answer = run("edge:./store", "edge:./other")
    assert answer.exit_code == 1
    assert "the store has several collections" in answer.stderr
    assert "expected: a, b" in answer.stderr


def test_a_source_that_is_not_there_makes_no_folder(run: Run, tmp_path: Path) -> None:
    answer = run("edge:./store", "edge:./other")
    assert (answer.exit_code, "there is no embedded store" in answer.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_configs_name_stores_and_collections(run: Run, tmp_path: Path) -> None:
    slots = "slots: {dense: {adapter: fake-dense}}\n"
    (tmp_path / "from.yaml").write_text(f"store: edge:./store\ncollection: x\n{slots}")
    (tmp_path / "to.yaml").write_text(f"store: edge:./other\ncollection: y\n{slots}")
    config = Config.model_validate({"collection": "x", "slots": {"dense": {"adapter": "fake-dense"}}})
    with EdgeClient("store") as client:
        populate(
            CollectionHandle(client, "x", config, Registry(fakes_plugin, installed=False)), [{"id": 1, "text": "t"}]
        )
    answer = run("from.yaml", "to.yaml")
    assert answer.exit_code == 0, answer.stderr
    with EdgeClient("other") as client:
        assert client.count("y").count == 1


def test_a_key_is_named_by_its_variable_and_never_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, filled: None
) -> None:
    answer = run("edge:./store", "https://localhost:1", "--collection", "a", "--to-api-key", "s3cret")
    assert (answer.exit_code, "can be seen by others" in answer.stderr) == (1, True)
    monkeypatch.setenv("MY_KEY", "s3cret")
    for key, message in (("${MY_KEY}", "does not answer"), ("${NO_SUCH_KEY}", "NO_SUCH_KEY is not set")):
        told = run("edge:./store", "https://localhost:1", "--collection", "a", "--to-api-key", key)
        assert (told.exit_code, message in told.stderr) == (1, True), told.stderr
        assert "s3cret" not in told.stderr + told.stdout


def test_copying_into_memory_from_the_command_line_is_refused(run: Run, filled: None) -> None:
    answer = run("edge:./store", "memory:", "--collection", "a")
    assert (answer.exit_code, "gone when the command ends" in answer.stderr) == (1, True)


def test_a_text_index_comes_along_from_local_mode_too(tmp_path: Path) -> None:
    registry = Registry(fakes_plugin, hooks, installed=False)
    slots = {"words": {"adapter": "qdrant-text-index", "language": "english"}}
    config = Config.model_validate({"collection": "c", "slots": slots})
    memory = QdrantClient(":memory:")
    populate(CollectionHandle(memory, "c", config, registry), [{"id": "1", "text": "a cat sleeps"}])
    with EdgeClient(tmp_path / "store") as edge:
        report = copy_collection(memory, "c", edge, registry=registry)
        assert report.indexes == ("_words",)
        found = edge.get_collection("c").payload_schema["_words"].params
        assert isinstance(found, models.TextIndexParams)
        assert found.scoring
        back = QdrantClient(":memory:")
        copy_collection(edge, "c", back)
        assert copy_collection(edge, "c", back).indexes == ("_words",)
