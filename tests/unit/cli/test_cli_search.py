"""`diptych search` answers queries, and explains its answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from rich.console import Console

import long_documents
from diptych.cli.search import parse_filter, search_params, snippet, texts_of
from diptych.collection.collection import Collection
from diptych.registry import Registry
from diptych.types import Document

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    with corpus.open("a") as file:
        file.write(json.dumps({"id": "bat", "text": "the bat hunts at night", "kind": "mammal", "legs": 2}) + "\n")
    assert run("populate", corpus).code == 0
    return run


def test_each_hit_is_a_line_with_tabs_when_piped(filled: Run) -> None:
    answer = filled("search", "who hunts mice at night", "an egg")
    assert (answer.code, answer.err) == (0, "")
    rows = [line.split("\t") for line in answer.out.splitlines()]
    assert rows[0][:2] == ["who hunts mice at night", "1"]
    assert rows[0][3:] == ["owl", "the owl hunts mice at night"]
    assert [row[1] for row in rows if row[0] == "an egg"] == ["1", "2", "3"]


def test_json_has_the_hits_of_each_query_with_documents_and_stages(filled: Run) -> None:
    answer = filled("search", "bat", "--limit", 1, "--json").json()
    (query,) = answer["queries"]
    (hit,) = query["hits"]
    assert (answer["collection"], query["query"], hit["id"]) == ("animals", "bat", "bat")
    assert hit["metadata"] == {"kind": "mammal", "legs": 2}
    assert hit["text"] == "the bat hunts at night"
    assert hit["score"] in hit["stages"].values()


def test_queries_come_from_standard_input_one_a_line(filled: Run) -> None:
    found = filled("search", "-", "--json", "-n", 1, input="egg\n\n  barks \n").json()["queries"]
    assert [(query["query"], query["hits"][0]["id"]) for query in found] == [("egg", "hen"), ("barks", "dog")]
    assert filled("search", "-n", 1, input="egg\n").out.split("\t")[3] == "hen"


def test_one_slot_alone_gives_only_its_own_scores(filled: Run) -> None:
    hits = filled("search", "owl at night", "--only", "lexical", "--json").json()["queries"][0]["hits"]
    assert hits[0]["id"] == "owl"
    assert set(hits[0]["stages"]) == {"lexical"}


def test_filters_and_where_leave_other_documents_out(filled: Run) -> None:
    only_bat = {"must": [{"key": "kind", "match": {"value": "mammal"}}]}
    for options in (("--filter", json.dumps(only_bat)), ("--where", "legs=2"), ("--where", "kind=mammal")):
        hits = filled("search", "night", *options, "--json").json()["queries"][0]["hits"]
        assert [hit["id"] for hit in hits] == ["bat"]
    assert filled("search", "night", "--where", "legs=3").out == ""


def test_offset_goes_on_where_limit_stopped(filled: Run) -> None:
    both = [line.split("\t")[3] for line in filled("search", "the night", "-n", 4).out.splitlines()]
    second = [line.split("\t") for line in filled("search", "the night", "-n", 2, "--offset", 2).out.splitlines()]
    assert [row[3] for row in second] == both[2:]
    assert [row[1] for row in second] == ["3", "4"]


def test_filter_and_where_must_both_hold() -> None:
    found = parse_filter('{"should": [{"is_null": {"key": "a"}}]}', ["b=true", "c=-3", "d=x=y"])
    assert found is not None
    assert isinstance(found.must, list)
    assert isinstance(found.must[0], models.Filter)
    truth, number, text = found.must[1:]
    assert [way.match.value for way in truth.should] == [True, "true"]  # type: ignore[union-attr]
    assert [way.match and way.match.value for way in number.should] == [-3, None, "-3"]  # type: ignore[union-attr]
    assert number.should[1].range == models.Range(gte=-3, lte=-3)  # type: ignore[union-attr,index]
    assert text.match.value == "x=y"  # type: ignore[union-attr]
    assert parse_filter(None, []) is None


def test_where_compares_numbers_as_numbers_and_the_rest_as_text(filled: Run, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "ant", "text": "ants", "n": 1.0}\n{"id": "elk", "text": "elks", "n": "007"}\n')
    assert filled("populate", more).code == 0
    for condition, expected in (("n=1.0", ["ant"]), ("n=1e0", ["ant"]), ("n=1.5", []), ("n=007", ["elk"])):
        hits = filled("search", "ants elks", "--where", condition, "--json").json()["queries"][0]["hits"]
        assert [hit["id"] for hit in hits] == expected, condition


@pytest.mark.parametrize("options", [[], ["--json"], ["--explain"], ["--group-by", "kind"]])
def test_a_filter_on_a_key_that_no_document_has_is_told_beside_the_answer(filled: Run, options: list[str]) -> None:
    slip = json.dumps({"should": [{"key": "legz", "match": {"value": 2}}, {"key": "kind", "match": {"value": "fish"}}]})
    answer = filled("search", "night", "--filter", slip, *options)
    assert (answer.code, answer.err) == (
        0,
        "warning: no document has 'legz', which the filter asks for: did you mean 'legs'?\n",
    )
    no_fish = json.dumps({"must": [{"key": "kind", "match": {"value": "fish"}}]})
    assert filled("search", "night", "--filter", no_fish, *options).err == ""


def test_a_key_to_group_by_that_no_document_has_is_told_with_what_may_be_meant(filled: Run) -> None:
    answer = filled("search", "night", "--group-by", "kinds")
    slip = "warning: no document has 'kinds', by which hits are grouped: did you mean 'kind'?\n"
    assert (answer.code, answer.err) == (0, slip)


def test_hits_come_in_groups_of_a_value(filled: Run, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    rows = [{"id": f"b{n}", "text": f"bird {n} at night", "kind": "bird"} for n in range(3)]
    more.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert filled("populate", more).code == 0
    options = ("search", "the bat hunts at night", "--only", "dense", "--group-by", "kind", "--group-size", 2)
    (query,) = filled(*options, "--json").json()["queries"]
    found = {group["value"]: [hit["id"] for hit in group["hits"]] for group in query["groups"]}
    assert set(found) == {"mammal", "bird"}
    assert (found["mammal"], len(found["bird"])) == (["bat"], 2)
    rows_out = [line.split("\t") for line in filled(*options).out.splitlines()]
    assert sorted(row[1:3] for row in rows_out) == [["bird", "1"], ["bird", "2"], ["mammal", "1"]]
    assert all(len(row) == 6 for row in rows_out)


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


def test_given_queries_need_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert texts_of(["a", "b"]) == ["a", "b"]
    assert texts_of(["-"]) == ["from a pipe"]


def test_a_snippet_is_one_harmless_line() -> None:
    document = Document("1", "a\x1b[2Jb\nc" + "d" * 500, title="Title")
    assert snippet(document, limit=20) == "Title: a [2Jb cdddd…"


def test_an_explanation_has_the_parts_that_the_library_gives(filled: Run) -> None:
    answer = filled("search", "--explain", "owl hunts at night", "--json").json()
    first, *_ = answer["queries"][0]["explanations"]
    assert (first["id"], first["rank"], first["document"]["text"]) == ("owl", 1, "the owl hunts mice at night")
    assert first["pipeline"].startswith("Retrieve('dense', 100) + Retrieve('lexical', 100) >> Dbsf()")
    parts = [slot["contribution"] for slot in first["slots"].values()]
    assert sum(parts) == pytest.approx(first["score"], abs=1e-6)
    assert {term["word"] for term in first["slots"]["lexical"]["terms"]} == {"owl", "hunts", "at", "night"}


def test_an_explanation_is_shown_slot_by_slot_with_words(filled: Run) -> None:
    lines = filled("search", "--explain", "owl hunts at night", "-n", 1).out.splitlines()
    assert lines[:2] == ["1 document for “owl hunts at night”", "rank 1, score 1.3544: owl"]
    rows = {line.split()[0]: line for line in lines[4:7]}
    assert list(rows) == ["dense", "lexical", "dbsf"]
    assert "hunts 1.0000" in rows["lexical"]
    assert "=1.3544" in rows["dbsf"]
    assert max(map(len, lines)) < 100, "what is piped is not padded"


def test_an_explanation_shows_the_strongest_words_and_counts_the_others(filled: Run, tmp_path: Path) -> None:
    text = " ".join(f"w{number}" for number in range(15))
    (tmp_path / "long.jsonl").write_text(json.dumps({"id": "long", "text": text}) + "\n")
    assert filled("populate", "long.jsonl").code == 0
    answer = filled("search", "--explain", text, "-n", 1)
    assert answer.out.count(" 1.0000,") == 12
    assert ", and 3 more" in answer.out
    (explained,) = filled("search", "--explain", text, "-n", 1, "--json").json()["queries"][0]["explanations"]
    assert len(explained["slots"]["lexical"]["terms"]) == 15


def test_blocks_of_a_vector_are_shown_with_their_parts(filled: Run) -> None:
    answer = filled(
        "search", "--explain", "owl at night", "-n", 1, "--blocks", "dense=left:40,right:24", "--json"
    ).json()
    dense = answer["queries"][0]["explanations"][0]["slots"]["dense"]
    assert sum(block["contribution"] for block in dense["blocks"]) == pytest.approx(dense["score"], abs=1e-5)
    out = filled("search", "--explain", "owl at night", "-n", 1, "--blocks", "dense=40,24").out
    assert re.search(r"1 -?0\.\d{4}, 2 -?0\.\d{4}", out)


def test_a_document_that_is_no_hit_is_explained_too(filled: Run) -> None:
    answer = filled("search", "--explain", "owl hunts at night", "--id", "hen", "--only", "lexical")
    assert answer.code == 0
    assert "no hit: not among the candidates of any slot" in answer.out


TENANTS = [
    {"id": "1", "text": "the owl hunts mice", "zoo": "north"},
    {"id": "1", "text": "the cat hunts mice", "zoo": "south"},
    {"id": "2", "text": "the hen lays an egg", "zoo": "south"},
]


@pytest.fixture
def with_tenants(run: Run, config: Path, corpus: Path) -> Run:
    config.write_text(config.read_text() + "tenant: {field: zoo}\n")
    corpus.write_text("".join(json.dumps(document) + "\n" for document in TENANTS))
    assert run("populate", corpus).code == 0
    return run


@pytest.mark.parametrize("command", [["search"], ["search", "--explain"]])
def test_a_tenant_is_named_or_nobody_is_answered(with_tenants: Run, command: list[str]) -> None:
    answer = with_tenants(*command, "mice", "--tenant", "north")
    assert (answer.code, "owl" in answer.out, "cat" in answer.out) == (0, True, False)
    refused = with_tenants(*command, "mice")
    assert (refused.code, refused.out) == (1, "")
    assert "a tenant is required" in refused.err
    assert "--tenant" in refused.err


def test_groups_and_synced_sources_are_a_tenants_own(with_tenants: Run, corpus: Path) -> None:
    groups = with_tenants("search", "mice", "--group-by", "zoo", "--tenant", "south", "--json").json()
    assert "north" not in json.dumps(groups)
    corpus.write_text(json.dumps(TENANTS[1]) + "\n")
    assert with_tenants("populate", corpus, "--sync").code == 1
    synced = with_tenants("populate", corpus, "--sync", "--tenant", "south", "--json").json()
    assert (synced["deleted"], synced["unchanged"]) == (1, 1)
    assert "owl" in with_tenants("search", "mice", "--tenant", "north").out


@pytest.mark.parametrize("options", [[], ["--json"], ["--explain"], ["--group-by", "zoo"]])
def test_a_tenant_that_has_no_documents_is_told_beside_the_answer(with_tenants: Run, options: list[str]) -> None:
    answer = with_tenants("search", "mice", "--tenant", "nroth", *options)
    assert (answer.code, answer.err) == (0, "tenant 'nroth' has no documents\n")
    assert "nroth" not in answer.out
    assert with_tenants("search", "mice", "--tenant", "north", *options).err == ""


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


def test_examples_pins_and_exclusions_are_options(filled: Run) -> None:
    def ids(*options: str) -> list[str]:
        return [hit["id"] for hit in filled("search", "night", *options, "--json").json()["queries"][0]["hits"]]

    assert ids("--pin", "bat", "--pin", "nobody", "--exclude", "owl")[0] == "bat"
    hits = filled("search", "night", "--pin", "bat", "--json").json()["queries"][0]["hits"]
    assert [hit["pinned"] for hit in hits] == [True, *[False] * (len(hits) - 1)]
    assert "owl" not in ids("--exclude", "owl")
    assert {*ids("--like", "bat", "--unlike", "text:an egg")} == {*ids()}
    explained = filled("search", "--explain", "night", "--like", "bat", "--pin", "owl", "--limit", "1")
    assert "pinned" in explained.out
    assert "1 liked and 0 unliked examples" in explained.out.replace("\n", " ")


def test_a_threshold_that_leaves_nothing_is_named_beside_the_answer(filled: Run) -> None:
    assert (
        filled("search", "mouse", "--threshold", "99").err
        == "hits of scores below 99, the score threshold, are left out\n"
    )
    assert filled("search", "mouse").err == ""


def test_the_best_passage_is_shown_instead_of_the_beginning(run: Run, tmp_path: Path, config: Path) -> None:
    config.write_text(json.dumps({"store": "edge:./manuals", "collection": "m", "slots": long_documents.SLOTS}))
    rows = [{"id": d.id, "text": d.text, "title": d.title} for d in long_documents.manuals()]
    (tmp_path / "manuals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run("populate", tmp_path / "manuals.jsonl").code == 0
    (line,) = run("search", long_documents.QUERY, "-n", 1).out.splitlines()
    title, _, text = line.split("\t")[4].partition(": ")
    assert title == "Sox"
    assert long_documents.SENTENCES["sox"] in text
    assert "Part 0 of sox" not in text
    assert "Part 0 of sox" in run("search", long_documents.QUERY, "-n", 1, "--passages", 0).out
    (query,) = run("search", long_documents.QUERY, "-n", 1, "--passages", 5, "--json").json()["queries"]
    (hit,) = query["hits"]
    assert len(hit["passages"]) == 5
    assert hit["passages"][0]["text"] == hit["text"][hit["passages"][0]["start"] : hit["passages"][0]["end"]]
    explained = run("search", "--explain", long_documents.QUERY, "-n", 1).out
    assert " passages, " in explained
    assert long_documents.SENTENCES["sox"][:20] in explained


def test_highlights_show_the_sentence_and_its_words(run: Run, tmp_path: Path, config: Path) -> None:
    config.write_text(json.dumps({"store": "edge:./manuals", "collection": "m", "slots": long_documents.SLOTS}))
    rows = [{"id": d.id, "text": d.text} for d in long_documents.manuals()]
    (tmp_path / "manuals.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run("populate", tmp_path / "manuals.jsonl").code == 0
    (line,) = run("search", long_documents.QUERY, "-n", 1, "--highlight").out.splitlines()
    assert line.split("\t")[4] == long_documents.SENTENCES["sox"]
    (query,) = run("search", long_documents.QUERY, "-n", 1, "--highlight", "--json").json()["queries"]
    (hit,) = query["hits"]
    assert hit["highlight"]["sentence"]["text"] == long_documents.SENTENCES["sox"]
    assert [hit["text"][start:end] for start, end in hit["highlight"]["words"]] == ["convert", "audio", "files"]
