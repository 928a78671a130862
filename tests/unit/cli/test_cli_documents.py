"""`info --all`, `delete`, `export` and `import` show, remove and move documents without loading a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych_edge import EdgeClient

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    with corpus.open("a") as file:
        file.write(json.dumps({"id": "bat", "text": "the bat\nhunts", "title": "Bat", "legs": 2}) + "\n")
    assert run("populate", corpus).code == 0
    return run


def test_collections_are_listed_with_points_slots_and_whether_diptych_knows_them(filled: Run, tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "qdrant") as client:
        client.create_collection("foreign", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    found = filled("info", "--all", "--json").json()["collections"]
    slots = {"dense": "fake-dense", "lexical": "fake-sparse"}
    assert found[0] == {"name": "animals", "points": 5, "slots": slots, "known": True, "state": "ready"}
    assert (found[1]["name"], found[1]["known"]) == ("foreign", False)
    answer = filled("info", "--store", "edge:./qdrant")
    assert "animals     5       dense (fake-dense), lexical (fake-sparse)  ready" in answer.out
    assert "diptych adopt" in answer.out
    assert "animals *" in filled("info", "--all").out


def test_a_collection_goes_through_a_file_and_answers_as_before(filled: Run, tmp_path: Path) -> None:
    before = filled("search", "hunts mice", "--json").json()["queries"]
    answer = filled("export", "all.jsonl.gz", "--vectors")
    assert (answer.code, answer.out) == (0, "animals: 5 points with vectors in all.jsonl.gz\n")
    assert filled("import", "all.jsonl.gz", "--collection", "again").out.startswith("again: 5 points in ")
    after = filled("search", "hunts mice", "--store", "edge:./qdrant", "--collection", "again", "--json")
    assert after.json()["queries"] == before
    report = filled("import", "all.jsonl.gz", "--store", "edge:./elsewhere", "--json").json()
    assert (report["collection"], report["written"], report["complete"]) == ("animals", 5, True)
    refused = filled("import", "all.jsonl.gz")
    assert (refused.code, "the collection exists" in refused.err) == (1, True)


def test_a_point_that_cannot_be_read_is_set_aside_and_told(filled: Run, tmp_path: Path) -> None:
    filled("export", "all.jsonl", "--vectors")
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write('{"point": -1}\n')
    answer = filled("import", "all.jsonl", "--collection", "again", "--report", "bad.jsonl")
    assert answer.code == 3
    assert "1 rejected, with reasons in bad.jsonl" in answer.err
    assert "all.jsonl:7: not a point id" in answer.err
    assert "warning: the file has 6 points and says that they are 5" in answer.err
