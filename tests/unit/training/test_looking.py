"""What `--prepare` shows of what it prepared."""

from __future__ import annotations

from pathlib import Path

from diptych_training.corpus import TrainingData
from diptych_training.recipes.base import data_files, examples

DOCUMENTS = {"d1": "one\nline, and " + "many words " * 40, "d2": "two", "d3": "three"}
DATA = TrainingData({"q1": "first", "q2": "second", "q3": "third"}, DOCUMENTS, {"q1": {"d1": 1.0}, "q2": {"d2": 1.0}})


def test_an_example_is_a_line_for_the_query_one_for_a_relevant_document_and_one_for_the_first_negative() -> None:
    query, relevant, negative = examples(DATA, {"q1": ["d1", "d3", "d2"]})
    assert (query, negative) == ("query q1: first", "  negative d3: three")
    assert relevant.startswith("  relevant d1: one line, and many words")
    assert relevant.endswith(" ...")
    assert len(relevant) < 120


def test_a_text_without_spaces_is_cut_and_not_dropped() -> None:
    data = TrainingData({"q": "x"}, {"d1": "長" * 500, "d2": "y"}, {"q": {"d1": 1.0}})
    assert examples(data, {"q": ["d2"]})[1] == f"  relevant d1: {'長' * 96} ..."


def test_queries_without_judgements_or_without_negatives_are_no_examples() -> None:
    assert examples(DATA, {"q1": [], "q2": ["d2"], "q3": ["d1"]}) == []


def test_no_more_than_was_asked_for_are_shown() -> None:
    assert len(examples(DATA, {"q1": ["d2"], "q2": ["d1"]}, 1)) == 3


def test_where_nothing_was_prepared_no_place_is_named(tmp_path: Path) -> None:
    assert data_files(tmp_path / "data") == []
    (tmp_path / "negatives.jsonl").touch()
    assert data_files(tmp_path) == [f"what was prepared lies in {tmp_path}: negatives.jsonl"]
