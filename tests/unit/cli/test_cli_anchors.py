"""Anchors are chosen in Python and scored by `diptych apply`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.config import load_config
from diptych.errors import SwapError
from diptych.swap.anchors import choose_missing

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


@pytest.fixture
def choose(tmp_path: Path, registry: Registry) -> Callable[..., list[Path]]:
    """Choose anchors for the collection of the config."""

    def chosen(count: int | None = None) -> list[Path]:
        config = load_config(tmp_path / "diptych.yaml")
        with Collection.stored(tmp_path / "diptych.yaml", registry=registry) as collection:
            return choose_missing(collection.handle, config, count=count)

    return chosen


def scores(run: Run) -> list[tuple[Any, ...]]:
    vectors = run("status", "--json").json()["vectors"]
    return [(own["vector"], own["role"], own["missing"]) for own in vectors if own["slot"] == "scores"]


def test_chosen_anchors_are_scored_by_apply_and_kept_up_by_populate(
    filled: Run, choose: Callable[..., list[Path]], tmp_path: Path
) -> None:
    assert "diptych apply" in filled("search", "word1").err
    assert choose(5) == [tmp_path / "anchors.txt"]
    assert len((tmp_path / "anchors.txt").read_text().splitlines()) == 5
    assert choose() == []
    built = filled("apply", "--json")
    assert (built.code, built.json()["encoded"], scores(filled)) == (0, {"scores.1": 12}, [("scores.1", "live", 0)])
    explained = filled("search", "word3 word7", "--explain").out
    assert "fake-reranker scored 12 documents in 2 rounds (4 + 8)" in explained
    (tmp_path / "more.jsonl").write_text(json.dumps({"id": "new", "title": "", "text": "word1"}) + "\n")
    assert filled("populate", "more.jsonl").code == 0
    assert scores(filled) == [("scores.1", "live", 0)]


def test_live_anchors_are_neither_edited_nor_chosen_anew(
    filled: Run, choose: Callable[..., list[Path]], tmp_path: Path
) -> None:
    choose(5)
    assert filled("apply").code == 0
    file = tmp_path / "anchors.txt"
    old = file.read_text()
    file.write_text(f"{old}word1 word2\n")
    with pytest.raises(SwapError, match=r"holds other anchors now\n(.|\n)*write the new anchors to a new file"):
        choose()
    assert "holds other anchors now" in filled("apply").err
    file.unlink()
    with pytest.raises(SwapError, match="restore it, or name another file"):
        choose(7)
    assert not file.exists()
    file.write_text(old)
    with pytest.raises(SwapError, match=r"another number than count(.|\n)*for others name a new file in the config"):
        choose(9)
    (tmp_path / "diptych.yaml").write_text((CONFIG + SCORES + SEARCH).replace("anchors.txt", "other.txt"))
    choose(7)
    assert filled("apply").code == 0
    assert ("scores.2", "live", 0) in scores(filled)


def test_a_file_with_another_number_of_anchors_than_asked_for_is_refused(
    filled: Run, choose: Callable[..., list[Path]], tmp_path: Path
) -> None:
    choose(50)
    assert len((tmp_path / "anchors.txt").read_text().splitlines()) == 12, "a title of each document"
    assert choose(50) == []
    for count in (4, 9):
        with pytest.raises(SwapError, match=f"anchors.txt: 12 anchors\n  expected: {count}\n(.|\n)*delete the file"):
            choose(count)


def test_a_build_under_way_keeps_its_anchors(filled: Run, choose: Callable[..., list[Path]], tmp_path: Path) -> None:
    choose(5)
    assert filled("apply", "--no-cut-over").code == 0
    file = tmp_path / "anchors.txt"
    old = file.read_text()
    file.write_text(f"{old}word1 word2\n")
    with pytest.raises(SwapError, match="the file of the anchors being built holds other anchors now"):
        choose()
    assert "or abandon the anchors being built: diptych rollback" in filled("apply").err
    file.unlink()
    with pytest.raises(SwapError, match="the file of the anchors being built is lost"):
        choose(7)
    assert (filled("apply").code, file.exists()) == (1, False)
    assert (choose(5), file.read_text()) == ([file], old), "the same documents give the same anchors again"
    assert "cut over" in filled("apply").out


def test_what_anchors_cannot_be_chosen_for_is_refused(
    run: Run, choose: Callable[..., list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "a", "text": "one"}) + "\n")
    assert run("populate", "corpus.jsonl").code == 0
    with pytest.raises(SwapError, match="the config has no slot of anchors"):
        choose()
    (tmp_path / "diptych.yaml").write_text(CONFIG + SCORES + SEARCH)
    with pytest.raises(SwapError, match="too few documents to choose anchors from"):
        choose()
