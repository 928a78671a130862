from __future__ import annotations

import gzip
from pathlib import Path

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


def test_a_beir_folder_gives_the_judged_queries_only(tmp_path: Path) -> None:
    queries, qrels = read_beir(beir(tmp_path))
    assert queries == [Query("one", "q1"), Query("three", "q3")]
    assert qrels.judgements == {"q3": {"d1": 1}, "q1": {"d2": 1}}
