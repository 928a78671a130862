from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import read_beir, read_queries
from diptych.types import Query

LINES = '{"_id": "q1", "text": "one", "metadata": {}}\n{"id": 2, "text": "zwölf"}\n{"_id": "q3", "text": "three"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq3\td1\t1\nq1\td2\t1\n"


def beir(folder: Path) -> Path:
    (folder / "qrels").mkdir()
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (folder / "qrels" / "test.tsv").write_text(QRELS)
    return folder


def test_queries_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(LINES, encoding="utf-8")
    assert read_queries(path) == [Query("one", "q1"), Query("zwölf", "2"), Query("three", "q3")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINES + "{not json}\n", r"a line is not JSON\n.*line 4"),
        (LINES + '["q4", "four"]\n', r"a line is not a query\n.*line 4\n  got: \[\"q4\""),
        ('{"_id": "q1"}\n', r"a line is not a query\n.*line 1"),
        ('{"text": "words"}\n', r"a line is not a query\n.*line 1"),
        ('{"_id": "", "text": "words"}\n', r"a line is not a query"),
        ('{"_id": true, "text": "words"}\n', r"a line is not a query"),
        ('{"_id": "q1", "text": "  "}\n', r"a line is not a query"),
        ('{"_id": "q1", "text": 3}\n', r"a line is not a query"),
        (LINES + LINES, r"query id 'q1' appears twice\n.*line 4"),
        ("\n", r"there are no queries"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        read_queries(path)


def test_a_beir_folder_gives_the_judged_queries_only(tmp_path: Path) -> None:
    queries, qrels = read_beir(beir(tmp_path))
    assert queries == [Query("one", "q1"), Query("three", "q3")]
    assert qrels.judgements == {"q3": {"d1": 1}, "q1": {"d2": 1}}


def test_a_missing_split_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"there is no dev.tsv\n.*qrels\n  got: test.tsv\n.*dev.tsv.gz"):
        read_beir(beir(tmp_path), "dev")


def test_a_folder_without_qrels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"there is no test.tsv\n.*\n  got: nothing"):
        read_beir(tmp_path)
    with pytest.raises(EvaluationError, match=r"(?s)no such folder.*nowhere.*check the path"):
        read_beir(tmp_path / "nowhere")


def test_a_judged_query_without_text_is_an_error(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "test.tsv").write_text(QRELS + "q9\td1\t1\n")
    with pytest.raises(EvaluationError, match=r"1 of 3 judged queries have no text\n.*\n  got: q9"):
        read_beir(folder)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"_id": "q", "text": ' + "[" * 5000 + "]" * 5000 + "}", "not JSON|not a query"),
        ('{"_id": ' + "9" * 5000 + ', "text": "a"}', "not JSON"),
        ('{"_id": "\\ud800", "text": "a"}', "not valid Unicode"),
        ('{"_id": "q", "text": "a \\udfff"}', "not valid Unicode"),
        ('{"_id": "q", "text": "' + "a" * 1_000_001 + '"}', "a line is too long"),
    ],
    ids=["deep", "deep text", "a huge id", "an id that is no Unicode", "a text that is no Unicode", "a long line"],
)
def test_a_hostile_line_of_queries_is_told_with_its_number(tmp_path: Path, line: str, text: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"_id": "1", "text": "fine"}\n' + line + "\n")
    with pytest.raises(EvaluationError, match=rf"({text})(.|\n)*line 2") as caught:
        read_queries(path)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode()
