"""`diptych search` answers queries, and explains its answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import long_documents
from diptych.cli.search import search_params
from diptych.collection.collection import Collection
from diptych.registry import Registry

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    with corpus.open("a") as file:
        file.write(json.dumps({"id": "bat", "text": "the bat hunts at night", "kind": "mammal", "legs": 2}) + "\n")
    assert run("populate", corpus).code == 0
    return run


def test_where_compares_numbers_as_numbers_and_the_rest_as_text(filled: Run, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "ant", "text": "ants", "n": 1.0}\n{"id": "elk", "text": "elks", "n": "007"}\n')
    assert filled("populate", more).code == 0
    for condition, expected in (("n=1.0", ["ant"]), ("n=1e0", ["ant"]), ("n=1.5", []), ("n=007", ["elk"])):
        hits = filled("search", "ants elks", "--where", condition, "--json").json()["queries"][0]["hits"]
        assert [hit["id"] for hit in hits] == expected, condition


def test_exact_and_effort_change_the_search_parameters_of_the_config(
    filled: Run, config: Path, registry: Registry
) -> None:
    assert filled("search", "egg", "--exact", "--hnsw-ef", 200, "-n", 1).out.split("\t")[3] == "hen"
    config.write_text(config.read_text() + "  params: {hnsw_ef: 50, oversampling: 2.0}\n")
    with Collection.open(config, registry=registry) as collection:
        found = search_params(collection, exact=True, hnsw_ef=None)
        assert search_params(collection, exact=False, hnsw_ef=None) is None
    assert found is not None
    assert (found.exact, found.hnsw_ef) == (True, 50)
    assert found.quantization is not None
    assert found.quantization.oversampling == 2.0


def test_an_explanation_shows_the_strongest_words_and_counts_the_others(filled: Run, tmp_path: Path) -> None:
    text = " ".join(f"w{number}" for number in range(15))
    (tmp_path / "long.jsonl").write_text(json.dumps({"id": "long", "text": text}) + "\n")
    assert filled("populate", "long.jsonl").code == 0
    answer = filled("search", "--explain", text, "-n", 1)
    assert answer.out.count(" 1.0000,") == 12
    assert ", and 3 more" in answer.out
    (explained,) = filled("search", "--explain", text, "-n", 1, "--json").json()["queries"][0]["explanations"]
    assert len(explained["slots"]["lexical"]["terms"]) == 15


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_search_waits_for_is_said_on_a_terminal_only(
    filled: Run, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr("diptych.cli.output.stderr", lambda: Console(file=stream, force_terminal=terminal, width=80))
    for explain in ([], ["--explain"]):
        stream.seek(0)
        stream.truncate()
        answer = filled("search", "owl", *explain, "--json")
        assert (answer.code, "encoders are loaded" in answer.out) == (0, False)
        answer.json()
        assert ("encoders are loaded" in stream.getvalue()) is terminal
        assert terminal or stream.getvalue() == ""


@pytest.fixture
def manuals(run: Run, tmp_path: Path, config: Path) -> Run:
    config.write_text(json.dumps({"store": "edge:./manuals", "collection": "m", "slots": long_documents.SLOTS}))
    rows = [{"id": d.id, "text": d.text, "title": d.title} for d in long_documents.manuals()]
    (tmp_path / "manuals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run("populate", tmp_path / "manuals.jsonl").code == 0
    return run


def test_the_best_passage_is_shown_instead_of_the_beginning(manuals: Run) -> None:
    (line,) = manuals("search", long_documents.QUERY, "-n", 1).out.splitlines()
    title, _, text = line.split("\t")[4].partition(": ")
    assert title == "Sox"
    assert long_documents.SENTENCES["sox"] in text
    assert "Part 0 of sox" not in text
    (query,) = manuals("search", long_documents.QUERY, "-n", 1, "--json").json()["queries"]
    (hit,) = query["hits"]
    assert len(hit["passages"]) == 3
    assert hit["passages"][0]["text"] == hit["text"][hit["passages"][0]["start"] : hit["passages"][0]["end"]]
    explained = manuals("search", "--explain", long_documents.QUERY, "-n", 1).out
    assert " passages, " in explained
    assert long_documents.SENTENCES["sox"][:20] in explained


def test_highlights_show_the_sentence_and_its_words(manuals: Run) -> None:
    (line,) = manuals("search", long_documents.QUERY, "-n", 1, "--highlight").out.splitlines()
    assert line.split("\t")[4].endswith(long_documents.SENTENCES["sox"])
    (query,) = manuals("search", long_documents.QUERY, "-n", 1, "--highlight", "--json").json()["queries"]
    (hit,) = query["hits"]
    assert hit["highlight"]["sentence"]["text"] == long_documents.SENTENCES["sox"]
    assert [hit["text"][start:end] for start, end in hit["highlight"]["words"]] == ["convert", "audio", "files"]
