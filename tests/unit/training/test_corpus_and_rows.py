"""Queries, documents and judgements become rows with ids, negatives and scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Document
from diptych.errors import CollectionNotFound, ConfigError
from diptych.testing import FakeReranker
from diptych.types import Floats
from diptych_training.corpus import TrainingData, held_out
from diptych_training.options import DataOptions
from diptych_training.recipes.cprd import score_lists
from diptych_training.recipes.negatives import documents_of, list_rows
from diptych_training.rows import left_out, scored_rows, training_rows


@pytest.fixture
def data() -> TrainingData:
    """Four documents; query a has two relevant ones, b one, and c none that is there."""
    documents = [
        Document("d0", "about cats", title="Cats"),
        Document("d1", "about dogs"),
        Document("d2", "about owls"),
        Document("d3", "about hens"),
    ]
    qrels = {"a": {"d0": 1, "d1": 2, "d2": 0}, "b": {"d2": 1}, "c": {"gone": 1}, "unasked": {"d0": 1}}
    return TrainingData.of({"a": "pets", "b": "birds", "c": "stones"}, documents, qrels)


def test_titles_stand_before_texts_and_only_what_is_there_is_judged(data: TrainingData) -> None:
    assert data.documents["d0"] == "Cats about cats"
    assert data.titles == {"d0": "Cats"}
    assert set(data.qrels) == {"a", "b"}
    assert data.relevant("a") == ["d1", "d0"]


def test_a_row_is_a_judged_pair_with_texts_and_ids(data: TrainingData) -> None:
    rows = training_rows(data, {"a": ["d2", "d3"], "b": ["d0"]}, per_query=2)
    assert rows.column_names == ["query", "positive", "negative_1", "negative_2", "label"]
    assert rows["label"][0] == [0, 1, 2, 3]
    assert rows["positive"][0] == "about dogs"
    assert [row["query"] for row in rows] == ["pets", "pets", "birds"]


def test_a_query_with_too_few_negatives_gets_others_that_are_not_judged(data: TrainingData) -> None:
    rows = training_rows(data, {"b": ["d0"]}, per_query=2, seed=3)
    of_b = rows["label"][2]
    assert of_b[:3] == [1, 2, 0]
    assert of_b[3] in (1, 3)
    of_a = rows["label"][0]
    assert of_a[2:] == [3, 3], "d3 is the only document that is not judged for a"


def test_a_query_that_stands_in_its_document_is_cut_out_of_it() -> None:
    documents = [Document("d0", "They sleep. They eat mice. They purr.", title="Cats"), Document("d1", "Dogs bark.")]
    qrels = {"a": {"d0": 1}, "b": {"d1": 1}, "c": {"d0": 1}}
    data = TrainingData.of({"a": "They eat mice.", "b": "Dogs bark.", "c": "Cats"}, documents, qrels)
    whole = "Cats They sleep. They eat mice. They purr."
    assert training_rows(data)["positive"][:] == [whole, "Dogs bark.", whole]
    cut = training_rows(replace(data, cut=frozenset("ab")))
    assert cut["positive"][:] == ["Cats They sleep. They purr.", "Dogs bark.", whole]
    assert data.document("d0") == documents[0]
    listed = list_rows(replace(data, cut=frozenset("ab")), {"a": ["d1"], "b": ["d0"]}, per_query=1)
    assert [row["documents"] for row in listed] == [
        ["Cats They sleep. They purr.", "Dogs bark."],
        ["Dogs bark.", whole],
    ]


def test_a_teacher_reads_what_the_student_reads() -> None:
    documents = [Document("d0", "They eat mice. They purr."), Document("d1", "They eat mice. Dogs bark.")]
    data = TrainingData.of({"a": "They eat mice."}, documents, {"a": {"d0": 1}})
    cut, asked = replace(data, cut=frozenset("a")), list[str]()

    class Asked(FakeReranker):
        def predict(self, pairs: Sequence[tuple[str, str]]) -> Floats:
            asked.extend(text for _, text in pairs)
            return super().predict(pairs)

    score_lists(Asked(), {"a": ["d0", "d1"]}, cut)
    assert sorted(asked) == ["They eat mice. Dogs bark.", "They purr."]


def test_a_query_that_is_judged_below_zero_alone_has_nothing_relevant(tmp_path: Path) -> None:
    documents = [Document("d0", "cats"), Document("d1", "dogs")]
    texts, qrels = {"a": "pets", "b": "birds"}, {"a": {"d0": -2}, "b": {"d1": 1, "d0": -2}}
    assert set(TrainingData.of(texts, documents, qrels).qrels) == {"b"}
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\na\td0\t-2\nb\td1\t1\n")
    (tmp_path / "dev.jsonl").write_text('{"_id": "a", "text": "pets"}\n{"_id": "b", "text": "birds"}\n')
    dev = {"qrels": tmp_path / "dev.tsv", "queries": tmp_path / "dev.jsonl"}
    options = DataOptions.model_validate({"queries": "q", "qrels": "r", "corpus": "c", "dev": dev})
    assert set(held_out(TrainingData.of(texts, documents, {"a": {"d1": 1}}), options, seed=1)[1].qrels) == {"b"}


def test_a_query_that_judges_all_documents_has_no_negative_and_is_left_out() -> None:
    documents = [Document("d0", "cats"), Document("d1", "dogs")]
    data = TrainingData.of({"a": "pets", "b": "birds"}, documents, {"a": {"d0": 1, "d1": 0}, "b": {"d1": 1}})
    rows = training_rows(data, {"a": []}, per_query=1)
    assert rows["query"][:] == ["birds"]
    with pytest.raises(ConfigError, match=r"no training rows could be made(?s:.*)which judge all 2 documents"):
        training_rows(data.only("a"), {"a": []}, per_query=1)


def pairs_of(rows: Any) -> set[tuple[str, str]]:
    return set(zip(rows["query"], rows["positive"], strict=True))


def test_scores_stand_behind_the_ids_and_too_few_negatives_come_in_turn(data: TrainingData) -> None:
    scores = {"a": {"d1": 3.0, "d0": 2.0, "d3": -1.0}, "b": {"d2": 1.0, "d0": 0.5, "d3": 0.25}}
    rows = scored_rows(data, {"a": ["d3"], "b": ["d1", "d0", "d3"]}, scores, per_query=3, ids=True)
    assert rows["label"][:] == [
        [0.0, 1.0, 3.0, 3.0, 3.0, 3.0, -1.0, -1.0, -1.0],
        [0.0, 0.0, 3.0, 3.0, 3.0, 2.0, -1.0, -1.0, -1.0],
        [1.0, 2.0, 0.0, 3.0, 0.0, 1.0, 0.5, 0.25, 0.5],
    ]
    assert rows["negative_3"][:] == ["about hens", "about hens", "Cats about cats"]
    assert left_out(data, pairs_of(rows), "of a reason") is None


def test_what_a_teachers_missing_scores_leave_out_is_told(data: TrainingData) -> None:
    scores = {"a": {"d1": 3.0, "d3": -1.0}, "b": {"d2": 1.0, "d1": 9.0, "d3": 9.0}}
    rows = scored_rows(data, {"a": ["d3"], "b": ["d0"]}, scores, per_query=1, ids=True)
    assert rows["label"][:] == [[0.0, 1.0, 3.0, 3.0, -1.0]], "no random document is taken for one mined for b"
    told = "2 of 3 judged pairs were left out, since of a reason (queries a, b)"
    assert left_out(data, pairs_of(rows), "of a reason") == told
    with pytest.raises(ConfigError, match=r"no row has a teacher's scores(?s:.*)data/negatives.jsonl"):
        scored_rows(data, {"a": ["d3"]}, {}, per_query=1)


def test_a_share_of_the_queries_is_held_out_and_numbers_stay(data: TrainingData) -> None:
    trained, held = data.split(0.5, seed=1)
    assert len(trained.qrels) == len(held.qrels) == 1
    assert not set(trained.qrels) & set(held.qrels)
    assert trained.query_numbers == data.query_numbers
    assert data.split(0.0, seed=1)[1].qrels == {}


def test_judgements_of_what_is_not_there_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"_id": "s1", "text": "pets"}\n{"_id": "s2", "text": "birds"}\n')
    rows = "s1\td0\t1\ns2\td1\t1\ns999999\td0\t1\ns1\tno-such-doc\t1\n"
    (tmp_path / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\ns2\td1\t1\ns2\tempty\t1\ns7\td1\t1\ns8\td1\t1\n")
    files = {name: tmp_path / file for name, file in (("queries", "queries.jsonl"), ("qrels", "qrels.tsv"))}
    options = DataOptions.model_validate({**files, "corpus": "c", "dev": {"qrels": tmp_path / "dev.tsv"}})
    documents = [Document("d0", "cats"), Document("d1", "owls"), Document("empty", " ")]
    trained, held = held_out(TrainingData.read(options, documents), options, seed=1)
    assert trained.remarks == (
        "2 of 4 judgements left out: 1 query is not in queries.jsonl (s999999), "
        "1 document not in the corpus (no-such-doc)",
    )
    assert held.remarks == (
        "3 of 4 held-out judgements left out: 2 queries are not in queries.jsonl (s7, s8), "
        "1 document without text (empty)",
    )
    whole = {"a": {"d0": 1}, "b": {"d1": 0}}
    assert TrainingData.of({"a": "pets", "b": "birds"}, documents, whole).remarks == ()


def test_nothing_to_train_on_names_the_files_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d0", "text": "cats"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\ns1\td0\t1\n")
    given = {"queries": tmp_path / "corpus.jsonl", "qrels": tmp_path / "qrels.tsv", "corpus": "c"}
    options = DataOptions.model_validate(given)
    apart = r"no query of qrels\.tsv \(such as 's1'\) is in corpus\.jsonl \(which has 'd0'\)$"
    with pytest.raises(ConfigError, match=f"no training data(?s:.*)(?m:{apart})"):
        TrainingData.read(options, [Document("d0", "cats")])
    both = r"\(which has 'd0'\); no document of qrels\.tsv \(such as 'd0'\) is in the corpus \(which has 'x7'\)"
    with pytest.raises(ConfigError, match=both):
        TrainingData.read(options, [Document("x7", "cats")])


def test_a_collection_without_store_or_documents_is_said_to_be_filled_first_and_is_not_made(tmp_path: Path) -> None:
    config = tmp_path / "diptych.yaml"
    config.write_text("store: edge:./qdrant\ncollection: packages\nslots:\n  words: {adapter: bm25}\n")
    live = DataOptions.model_validate({"queries": "q", "qrels": "r", "collection": config})
    with pytest.raises(CollectionNotFound, match=r"no embedded store(?s:.*)fill it first: diptych populate"):
        list(documents_of(live))
    assert not (tmp_path / "qdrant").exists()
    with Collection.open(config, "others") as others:
        others.populate([{"id": "d0", "text": "cats"}], report_path=tmp_path / "aside.jsonl")
    told = f"collection 'packages' of {config} has no documents"
    with pytest.raises(ConfigError, match=rf"{re.escape(told)}(?s:.*)fill it first: diptych populate"):
        list(documents_of(live))


def test_judgements_of_their_own_are_held_out_of_the_training(data: TrainingData, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nb\td3\t1\nnew\td1\t1\n")
    (tmp_path / "dev.jsonl").write_text('{"_id": "b", "text": "birds"}\n{"_id": "new", "text": "fresh"}\n')
    dev = {"qrels": tmp_path / "dev.tsv", "queries": tmp_path / "dev.jsonl"}
    options = DataOptions.model_validate({"queries": "q", "qrels": "r", "corpus": "c", "dev": dev})
    trained, held = held_out(data, options, seed=1)
    assert set(trained.qrels) == {"a"}
    assert set(held.qrels) == {"b", "new"}
    assert held.queries["new"] == "fresh"
