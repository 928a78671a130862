"""`diptych judge` in the terminal, and `diptych judge --clicks`."""

from __future__ import annotations

import json
import os
import pty
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych import Registry, hookimpl
from diptych.evaluate import read_beir
from diptych.generation import JudgeRequest
from diptych_lab.cli.judge import _key

Run = Callable[..., Any]
QUERIES = {"q1": "cat on a mat", "q2": "barks at the man", "q3": "hunts mice", "q4": "an egg"}


@pytest.fixture
def ready(run: Run, config: Path, corpus: Path, tmp_path: Path) -> Run:
    """Four queries over four animals; the second config has one slot alone."""
    lines = (json.dumps({"_id": key, "text": text}) + "\n" for key, text in QUERIES.items())
    (tmp_path / "queries.jsonl").write_text("".join(lines))
    config.write_text(config.read_text() + "evaluate: {queries: queries.jsonl}\n")
    (tmp_path / "lone.yaml").write_text(
        config.read_text().replace("  limit: 3", "  retrieve: {lexical: 10}\n  limit: 3")
    )
    assert run("populate", corpus).code == 0
    return run


BOTH = ("--config", "diptych.yaml", "--config", "lone.yaml", "--judge", "anna", "--metric", "nDCG@3")


def test_grades_are_taken_by_keys_and_evaluate_reads_them(ready: Run, tmp_path: Path) -> None:
    answer = ready("judge", *BOTH, input="3" * 100)
    assert answer.code == 0
    assert "settled" in answer.out
    assert "wrote judgements; to read it: diptych evaluate judgements" in answer.out
    assert "0 not relevant · 1 related · 2 relevant · 3 exact · s skip · u undo · q quit" in answer.err
    assert "dense" not in answer.err
    assert "lone" not in answer.err
    queries, qrels = read_beir(tmp_path / "judgements")
    assert {query.text for query in queries} <= set(QUERIES.values())
    assert {grade for own in qrels.judgements.values() for grade in own.values()} == {3}
    assert ready("evaluate", "judgements", "--metrics", "nDCG@3", "--json").code == 0


def test_each_document_is_shown_with_its_id_and_metadata(ready: Run, corpus: Path) -> None:
    corpus.write_text('{"id": "cat", "text": "the cat sleeps on the warm mat", "section": "pets", "age": 3}\n')
    assert ready("populate", corpus).code == 0
    assert "\ncat · section: pets · age: 3\n" in ready("judge", *BOTH, input="0" * 100).err


def test_quitting_and_coming_again_goes_on_where_it_was(ready: Run, tmp_path: Path) -> None:
    first = ready("judge", *BOTH, input="01q")
    assert "the same command continues here" in first.err
    assert "not settled: " in first.out
    log = tmp_path / "judgements/judgements.jsonl"
    grades = [json.loads(line) for line in log.read_text().splitlines()]
    assert [own["grade"] for own in grades if "grade" in own] == [0, 1]
    assert {own["judge"] for own in grades} == {"anna"}
    again = ready(
        "judge",
        *BOTH,
        input="u2s" + "\n",
    )
    assert again.code == 0
    grades = [json.loads(line) for line in log.read_text().splitlines()]
    assert [own.get("grade", "undone") for own in grades if "document" in own] == [0, 1, "undone", 2, None]


def test_one_config_pools_the_pipeline_and_its_slots(ready: Run) -> None:
    found = ready("judge", "--metric", "nDCG@2", "--json", input="3" * 100).json()
    assert [own["name"] for own in found["verdict"]["differences"]] == ["dense", "lexical"]
    named = ready("judge", "other", "--only", "dense", "--only", "lexical", "--json", input="").json()
    assert (named["verdict"]["baseline"], named["verdict"]["settled"]) == ("dense", False)


def test_a_folder_takes_no_judgements_of_another_collection(ready: Run, config: Path, tmp_path: Path) -> None:
    ready("judge", *BOTH, input="30q")
    (tmp_path / "other.yaml").write_text(config.read_text().replace("collection: ", "collection: other-"))
    assert ready("populate", "animals.jsonl", "--config", "other.yaml").code == 0
    answer = ready("judge", "--config", "other.yaml", "--judge", "anna", input="3")
    assert (answer.code, "of another collection" in answer.err) == (1, True), answer.err
    both = ("--config", "diptych.yaml", "--config", "other.yaml", "--judge", "anna")
    assert ready("judge", *both, input="3q").code == 0, "two that are compared share their documents"
    assert ready("judge", "--config", "other.yaml", "--judge", "anna", input="q").code == 0


def test_a_second_judge_is_compared_with_the_first(ready: Run) -> None:
    ready("judge", *BOTH, input="30" * 50)
    answer = ready("judge", "--judge", "bob", "--again", "4", input="3003")
    assert answer.code == 0
    assert "anna and bob" in answer.out
    found = ready("judge", "--judge", "bob", "--again", "4", "--json").json()
    assert found["agreements"][0]["pairs"] == 4


class Model:
    """Answers 1 for each pair."""

    @staticmethod
    @hookimpl
    def diptych_judge(request: JudgeRequest) -> list[float] | None:
        return [1.0] * len(request.pairs) if request.generator == "kind" else None


def test_a_model_is_refused_before_people_have_judged_and_where_none_is_configured(ready: Run, config: Path) -> None:
    answer = ready("judge", *BOTH, "--model")
    assert (answer.code, "no judging model is configured" in answer.err) == (1, True)
    config.write_text(config.read_text().replace("queries.jsonl}", "queries.jsonl, judge: {generator: kind}}"))
    answer = ready("judge", *BOTH, "--model")
    assert answer.code == 1
    assert "You judge search results." in answer.err, "the prompt is shown"
    assert "too few judgements of people" in answer.err


def test_a_model_goes_on_where_it_agrees_and_is_refused_where_it_does_not(
    ready: Run, config: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych_lab.judge.agreement.LEAST_PAIRS", 2)
    registry._manager.register(Model, "model")
    config.write_text(config.read_text().replace("queries.jsonl}", "queries.jsonl, judge: {generator: kind}}"))
    ready("judge", *BOTH, input="03q")
    refused = ready("judge", *BOTH, "--model")
    assert refused.code == 1
    assert "the model agrees too little with people, and its grades do not count" in refused.err
    config.write_text(config.read_text().replace("generator: kind}", "generator: kind, least_kappa: -1}"))
    found = ready("judge", *BOTH, "--model", "--json").json()
    assert found["verdict"]["settled"]
    assert found["agreements"][0]["judges"] == ["anna", "kind"]


def test_a_key_is_read_from_a_terminal_without_return(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    done = threading.Event()

    def press() -> None:  # again and again: what is pressed before the terminal is read is thrown away
        while not done.wait(0.02):
            os.write(leader, b"x2")

    with os.fdopen(follower, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        fingers = threading.Thread(target=press)
        fingers.start()
        try:
            assert _key() == "2"
        finally:
            done.set()
            fingers.join()
            os.close(leader)


# clicks


def test_clicks_become_judged_queries(run: Run, tmp_path: Path) -> None:
    chance, worth, lines = random.Random(0), {"good": 0.4, "bad": 0.1}, list[str]()
    for _ in range(2000):
        shown = ["good", "bad"] if chance.random() < 0.9 else ["bad", "good"]
        clicked = [name for rank, name in enumerate(shown, 1) if chance.random() < worth[name] / rank]
        lines.append(json.dumps({"query": "a query", "shown": shown, "clicked": clicked}))
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    answer = run("judge", "clicked", "--clicks", "log.jsonl")
    assert answer.code == 0
    assert "ranks are looked at (measured): 1.00 0." in answer.out
    queries, qrels = read_beir(tmp_path / "clicked")
    assert queries[0].metadata == {"shown": 2000}
    assert qrels.judgements == {queries[0].id: {"good": 3, "bad": 1}}
    assert queries[0].id.split() == [queries[0].id], "the tools that read TREC files need one word"
    assumed = run("judge", "clicked", "--clicks", "log.jsonl", "--power", "1", "--json").json()
    assert assumed["propensities"][:2] == [1.0, 0.5]
    assert assumed["ignored"] == 0
    stray = json.dumps({"query": "a query", "shown": ["good"], "clicked": ["gone", "lost"]})
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, stray]))
    answer = run("judge", "clicked", "--clicks", "log.jsonl")
    assert "warning: 2 clicks on ids that were not shown, ignored: first 'gone' for 'a query'" in answer.err
    assert run("judge", "clicked", "--clicks", "log.jsonl", "--json").json()["ignored"] == 2
