"""Teachers' scores are kept, and no pair is scored twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.errors import ConfigError
from diptych.testing import FakeReranker
from diptych_training.corpus import TrainingData
from diptych_training.recipes.cprd import score_lists

QUERIES = {"q": "cat sleeps", "r": "dog", "s": "owl"}
DOCUMENTS = {"a": "the cat sleeps", "b": "a dog barks", "c": "an owl hunts mice"}
DATA = TrainingData(QUERIES, DOCUMENTS, {})
LISTS = {"q": ["a", "b"], "r": ["b", "c", "a"], "s": []}


def asked(teacher: FakeReranker) -> int:
    return sum(len(call.inputs) for call in teacher.calls)


def test_scores_are_those_of_the_teacher_pair_by_pair() -> None:
    found = score_lists(FakeReranker(), LISTS, DATA)
    expected = {
        query: {d: float(FakeReranker().predict([(QUERIES[query], DOCUMENTS[d])])[0]) for d in own}
        for query, own in LISTS.items()
    }
    assert found == expected


def test_a_second_run_scores_nothing_and_a_longer_list_only_what_is_new(tmp_path: Path) -> None:
    path, first, second = tmp_path / "scores.jsonl", FakeReranker(), FakeReranker()
    once = score_lists(first, LISTS, DATA, name="fake", path=path)
    assert asked(first) == 5
    assert score_lists(second, LISTS, DATA, name="fake", path=path) == once
    assert asked(second) == 0
    score_lists(second, {**LISTS, "s": ["c"]}, DATA, name="fake", path=path)
    assert asked(second) == 1


def test_who_watches_hears_of_every_pair_once(tmp_path: Path) -> None:
    for expected in ([0, 2, 3], [5]):  # the second time all are there
        heard: list[int] = []
        path = tmp_path / "scores.jsonl"
        score_lists(FakeReranker(), LISTS, DATA, path=path, pairs=2, advance=heard.append)
        assert heard == expected


def test_a_text_that_has_changed_is_scored_again(tmp_path: Path) -> None:
    path, teacher = tmp_path / "scores.jsonl", FakeReranker()
    score_lists(FakeReranker(), LISTS, DATA, path=path)
    found = score_lists(teacher, LISTS, TrainingData(QUERIES, {**DOCUMENTS, "a": "a dog sleeps"}, {}), path=path)
    assert asked(teacher) == 2
    assert found["q"]["a"] == pytest.approx(0.5, abs=0.01)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path, teacher = tmp_path / "scores.jsonl", FakeReranker()
    whole = score_lists(FakeReranker(), LISTS, DATA, path=path)
    path.write_bytes(path.read_bytes()[:-20])
    assert score_lists(teacher, LISTS, DATA, path=path) == whole
    assert asked(teacher) == 1


def test_another_teachers_scores_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    score_lists(FakeReranker(), LISTS, DATA, name="one", path=path)
    with pytest.raises(ConfigError, match=r"(?s)scores of another teacher.*'one'.*'two'.*delete the file"):
        score_lists(FakeReranker(), LISTS, DATA, name="two", path=path)
