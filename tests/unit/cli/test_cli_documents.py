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


def test_an_empty_store_says_how_to_fill_it(run: Run) -> None:
    answer = run("info", "--store", "memory:")
    assert (answer.code, answer.out) == (0, "")
    assert "diptych populate SOURCE" in answer.err


def test_documents_are_shown_by_their_ids(filled: Run) -> None:
    answer = filled("export", "--id", "bat", "--id", "cat")
    _, *rows = [json.loads(line) for line in answer.out.splitlines()]
    assert (answer.code, answer.err, {row["id"] for row in rows}) == (0, "", {"bat", "cat"})
    assert {"id": "bat", "text": "the bat\nhunts", "title": "Bat", "metadata": {"legs": 2}} in rows
    answer = filled("export", "--id", "bat", "--id", "unicorn")
    assert (answer.code, len(answer.out.splitlines()), answer.err) == (1, 2, "not there: unicorn\n")


def test_documents_are_deleted_by_ids_and_by_filter(filled: Run) -> None:
    answer = filled("delete", "cat", "unicorn", "--yes")
    assert (answer.code, answer.out, answer.err) == (1, "animals: 1 deleted\n", "not there: unicorn\n")
    assert filled("delete", "nosuch").code == 1
    assert filled("delete", "--where", "legs=2", "-y", "--json").json()["deleted"] == 1
    assert filled("info", "--json").json()["documents"] == 3
    answer = filled("delete", "--where", "legz=2", "-y")
    assert (answer.out, answer.err) == (
        "animals: 0 deleted\n",
        "warning: no document has 'legz', which the filter asks for\n",
    )


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


def test_documents_are_exported_and_populated_again(filled: Run, tmp_path: Path) -> None:
    assert filled("export", "some.jsonl", "--where", "legs=2", "--json").json()["exported"] == 1
    assert filled("export", "-").out.count("\n") == 6
    assert "the file exists" in filled("export", "some.jsonl").err
    assert filled("export", "some.jsonl", "--force").code == 0
    assert filled("delete", "cat", "-y").code == 0
    assert filled("import", "some.jsonl", "--json").json()["new"] == 1
    with (tmp_path / "some.jsonl").open("a") as file:
        file.write("{broken\n")
    answer = filled("import", "some.jsonl")
    assert (answer.code, "some.jsonl:7: not JSON" in answer.err) == (3, True)


def test_a_point_that_cannot_be_read_is_set_aside_and_told(filled: Run, tmp_path: Path) -> None:
    filled("export", "all.jsonl", "--vectors")
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write('{"point": -1}\n')
    answer = filled("import", "all.jsonl", "--collection", "again", "--report", "bad.jsonl")
    assert answer.code == 3
    assert "1 rejected, with reasons in bad.jsonl" in answer.err
    assert "all.jsonl:7: not a point id" in answer.err
    assert "warning: the file has 6 points and says that they are 5" in answer.err
