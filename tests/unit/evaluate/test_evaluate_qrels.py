from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels

BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n"
TREC = "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n"
NO_TEXTS = [
    pytest.param(b"\xff\xfe\x00", id="no UTF-8"),
    pytest.param(gzip.compress(TREC.encode())[:-12], id="cut off"),
    pytest.param(b"\x1f\x8bnot gzip", id="no gzip"),
]
JUDGED = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}}


def write(folder: Path, text: str, name: str = "qrels.tsv") -> Path:
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["qrels.tsv", "qrels.tsv.gz", "zipped-without-a-suffix.gz"])
@pytest.mark.parametrize("text", [BEIR, TREC, TREC.replace(" ", "\t"), BEIR.partition("\n")[2]])
def test_both_forms_zipped_or_not_give_the_same_judgements(tmp_path: Path, text: str, name: str) -> None:
    assert Qrels.read(write(tmp_path, text, name)).judgements == JUDGED


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("\n", "\n\n"), ("query-id", "\ufeffquery-id")])
def test_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(tmp_path: Path, change: tuple[str, str]) -> None:
    assert Qrels.read(write(tmp_path, BEIR.replace(*change))).judgements == JUDGED


def test_ids_in_a_beir_file_may_hold_spaces(tmp_path: Path) -> None:
    assert Qrels.read(write(tmp_path, "query-id\tcorpus-id\tscore\nq 1\td 1\t1\n")).judgements == {"q 1": {"d 1": 1}}


def test_trec_columns_are_parted_by_any_white_space(tmp_path: Path) -> None:
    assert Qrels.read(write(tmp_path, "q1 0 d1 2\nq1 0\td2\t0\nq2\t0   d1 1\n")).judgements == JUDGED


def test_a_gzipped_file_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_bytes(gzip.compress(BEIR.encode()))
    assert Qrels.read(path).judgements == JUDGED


def test_repeated_equal_judgements_count_once(tmp_path: Path) -> None:
    assert Qrels.read(write(tmp_path, BEIR + "q2\td1\t1\n")).judgements == JUDGED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\n", r"a line is not a judgement\n.*line 3\n.*2 columns"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t0.5\n", r"a grade is not an integer\n.*line 2\n  got: '0.5'"),
        ("query-id\tcorpus-id\tscore\n\td1\t1\n", r"a line is not a judgement\n.*line 2"),
        ("qid\tdocid\trelevance\nq1\td1\t1\n", r"a grade is not an integer\n.*line 1\n  got: 'relevance'"),
        ("q1 0 d1 1\nq1 0 d2 yes\n", r"a grade is not an integer\n.*line 2\n  got: 'yes'"),
        ("q1 0 d1 1\nq1 d2 1\n", r"a line is not a judgement\n.*line 2\n.*3 columns\n  expected: 4 columns"),
        ("q1,d1,1\n", r"a line is not a judgement\n.*line 1\n.*\n  expected: 3 \(BEIR\) or 4 \(TREC\)"),
        ("q1 0 d1 1\nq2 0 d1 1\nq1 0 d1 0\n", r"'q1' judges document 'd1' twice, differently\n.*line 3\n.*0 after 1"),
        ("query-id\tcorpus-id\tscore\n", r"there are no judgements"),
        ("", r"there are no judgements"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        Qrels.read(write(tmp_path, text))


@pytest.mark.parametrize("data", NO_TEXTS)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_bytes(data)
    with pytest.raises(EvaluationError, match=r"cannot read qrels.tsv"):
        Qrels.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"cannot read none.tsv\n.*none.tsv\n  got: FileNotFoundError"):
        Qrels.read(tmp_path / "none.tsv")


def test_relevance_begins_at_the_grade_asked_for() -> None:
    qrels = Qrels({"q1": {"d1": 2, "d2": 1, "d3": 0, "d4": -1}, "q2": {"d1": 0}})
    assert qrels.relevant("q1") == {"d1", "d2"}
    assert qrels.relevant("q1", grade=2) == {"d1"}
    assert qrels.relevant("unknown") == frozenset()
    assert qrels.without_relevant == ("q2",)


def test_judgements_can_be_restricted_to_some_queries() -> None:
    kept = Qrels(JUDGED, "here").restricted(["q2", "unknown"])
    assert kept == Qrels({"q2": {"d1": 1}}, "here")
    assert len(kept) == 1


@pytest.mark.parametrize(
    "grade", [str(2**63), str(-(2**63) - 1), "1000001", "9" * 5000, "0x1", "1.5", "nan", "1e3", "\u0661\ud7ff"]
)
def test_a_grade_that_no_measure_can_use_is_told(tmp_path: Path, grade: str) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text(f"q1\td1\t1\nq1\td2\t{grade}\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"a grade is (not an integer|too high)(.|\n)*line 2") as caught:
        Qrels.read(path)
    assert len(str(caught.value)) < 1000


def test_a_file_without_line_ends_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv.gz"
    path.write_bytes(gzip.compress(b"q" * 50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationError, match="a line is too long"):
            Qrels.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("grade", [2**63, -(2**70), 16**5000], ids=["2**63", "-2**70", "16**5000"])
def test_grades_given_in_python_are_limited_too(grade: int) -> None:
    with pytest.raises(EvaluationError, match="a grade is too high"):
        Qrels({"q": {"d": grade}})
