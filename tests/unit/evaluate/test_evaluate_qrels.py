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


def test_a_gzipped_file_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_bytes(gzip.compress(BEIR.encode()))
    assert Qrels.read(path).judgements == JUDGED


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
