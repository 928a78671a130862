"""`diptych anchors` builds and shows scores of anchors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense, dimension: 8}
"""
SCORES = "  scores: {adapter: fake-reranker, anchors: {texts: ./anchors.txt}}\n"
SEARCH = """\
search:
  limit: 2
  rerank: [{adapter: fake-reranker, candidates: 4, explore: {anchors: scores, rounds: 2, budget: 12}}]
"""


@pytest.fixture
def filled(run: Run, tmp_path: Path) -> Run:
    """Twelve documents, and a config that adds anchors to them."""
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    chance = random.Random(0)
    words = [f"word{n}" for n in range(20)]
    rows = [
        {"id": f"d{n}", "title": " ".join(chance.sample(words, 3)), "text": " ".join(chance.sample(words, 8))}
        for n in range(12)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert run("populate", "corpus.jsonl").code == 0
    (tmp_path / "diptych.yaml").write_text(CONFIG + SCORES + SEARCH)
    return run


def test_calls_come_first_and_the_scores_after(filled: Run, tmp_path: Path) -> None:
    nothing = "animals has no anchors; to build those of the config: diptych anchors build"
    assert nothing in filled("anchors", "status").out
    announced = filled("anchors", "build", "--count", 5, "--dry-run")
    assert (announced.code, announced.err) == (0, "")
    assert "anchors.txt: titles of the collection, by seed 0" in announced.out
    assert "scores: 12 documents x 5 anchors = 60 calls of fake-reranker, under 1 s on this machine" in announced.out
    assert len((tmp_path / "anchors.txt").read_text().splitlines()) == 5
    assert filled("anchors", "status", "--json").json()["anchors"] == []

    built = filled("anchors", "build")
    assert built.code == 0
    assert "warning" not in built.err
    assert "60 calls" in built.out
    assert "cut over" in built.out
    (state,) = filled("anchors", "status", "--json").json()["anchors"]
    assert (state["vector"], state["role"], state["anchors"], state["scored"], state["missing"]) == (
        "scores.1",
        "live",
        5,
        12,
        0,
    )
    row = filled("anchors", "status").out.splitlines()[1].split()
    assert row == ["scores", "scores.1", "live", "fake-reranker", "5", "12", "0", "60", "0"]
    assert "all documents have scores of 5 anchors" in filled("anchors", "build").out
    explained = filled("explain", "word3 word7").out
    assert "fake-reranker scored 12 documents in 2 rounds (4 + 8)" in explained


def test_new_documents_get_their_scores(filled: Run, tmp_path: Path) -> None:
    assert filled("anchors", "build", "--count", 5, "--json").json()["encoded"] == {"scores.1": 12}
    (tmp_path / "more.jsonl").write_text(json.dumps({"id": "new", "title": "", "text": "word1"}) + "\n")
    assert filled("populate", "more.jsonl").code == 0
    (state,) = filled("anchors", "status", "--json").json()["anchors"]
    assert (state["scored"], state["missing"]) == (13, 0)


def test_live_anchors_are_neither_edited_nor_chosen_anew(filled: Run, tmp_path: Path) -> None:
    assert "diptych anchors build" in filled("search", "word1").err
    assert filled("anchors", "build", "--count", 5).code == 0
    file = tmp_path / "anchors.txt"
    old = file.read_text()
    file.write_text(f"{old}word1 word2\n")
    answer = filled("anchors", "build")
    assert answer.code == 1
    assert "holds other anchors now" in answer.err
    assert "write the new anchors to a new file and name it" in answer.err
    assert "holds other anchors now" in filled("apply").err
    file.unlink()
    answer = filled("anchors", "build", "--count", 7)
    assert (answer.code, file.exists()) == (1, False)
    assert "restore it, or name another file" in answer.err
    file.write_text(old)
    (tmp_path / "diptych.yaml").write_text((CONFIG + SCORES + SEARCH).replace("anchors.txt", "other.txt"))
    assert filled("anchors", "build", "--count", 7).code == 0
    assert filled("anchors", "status", "--json").json()["anchors"][0]["vector"] == "scores.2"


def test_a_file_with_another_number_of_anchors_than_asked_for_is_refused(filled: Run, tmp_path: Path) -> None:
    assert filled("anchors", "build", "--count", 5, "--dry-run").code == 0
    for count in (4, 9):
        answer = filled("anchors", "build", "--count", count)
        assert answer.code == 1
        assert answer.err.startswith("error: the file of anchors holds another number than --count")
        assert f"anchors.txt: 5 anchors\n  expected: {count}\n" in answer.err
        assert "leave --count out to use these; for others delete the file, or name a new one" in answer.err
    assert filled("anchors", "build", "--count", 5).code == 0
    answer = filled("anchors", "build", "--count", 9)
    assert "leave --count out to use these; for others name a new file in the config" in answer.err, "these are live"
    assert filled("anchors", "status", "--json").json()["anchors"][0]["anchors"] == 5


def test_more_anchors_than_the_collection_has_titles_may_be_asked_for_again(filled: Run, tmp_path: Path) -> None:
    assert filled("anchors", "build", "--count", 50, "--dry-run").code == 0
    assert len((tmp_path / "anchors.txt").read_text().splitlines()) == 12, "a title of each document"
    assert filled("anchors", "build", "--count", 50).code == 0


def test_a_build_under_way_keeps_its_anchors_and_counts_only_what_is_left(filled: Run, tmp_path: Path) -> None:
    assert filled("anchors", "build", "--count", 5, "--dry-run").code == 0
    assert filled("apply", "--no-cut-over").code == 0
    assert "scores: all documents have scores of 5 anchors" in filled("anchors", "build", "--dry-run").out
    file = tmp_path / "anchors.txt"
    old = file.read_text()
    file.write_text(f"{old}word1 word2\n")
    for answer in (filled("anchors", "build"), filled("apply")):
        assert answer.code == 1
        assert "the file of the anchors being built holds other anchors now" in answer.err
        assert (
            "restore its anchors and run this again, or abandon the anchors being built: diptych rollback" in answer.err
        )
    file.unlink()
    for answer in (filled("anchors", "build", "--count", 7), filled("apply")):
        assert (answer.code, file.exists()) == (1, False)
        assert "the file of the anchors being built is lost" in answer.err
    built = filled("anchors", "build", "--count", 5)
    assert (built.code, file.read_text()) == (0, old), "the same documents give the same anchors again"
    assert "cut over" in built.out


def test_other_changes_are_left_to_apply(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text((CONFIG + SCORES + SEARCH).replace("dimension: 8", "dimension: 9"))
    answer = filled("anchors", "build")
    assert answer.code == 1
    assert "the config changes other slots as well" in answer.err
    assert "diptych plan, then diptych apply" in answer.err


def test_a_config_without_anchors_is_told_how_to_have_some(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    answer = filled("anchors", "build")
    assert answer.code == 1
    assert "the config has no slot of anchors" in answer.err


def test_too_few_titles_are_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "a", "text": "one"}) + "\n")
    assert run("populate", "corpus.jsonl").code == 0
    (tmp_path / "diptych.yaml").write_text(CONFIG + SCORES)
    answer = run("anchors", "build")
    assert answer.code == 1
    assert "by which no query can be searched" in answer.err
    (tmp_path / "diptych.yaml").write_text(CONFIG + SCORES + SEARCH)
    assert "too few documents to choose anchors from" in run("anchors", "build").err
