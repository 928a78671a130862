"""Input that evaluation refuses: the error of each stands once, in refusals.json beside this file.

`DIPTYCH_SNAPSHOTS=write` writes the file anew.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, ann_recall, evaluate, from_trec, read_beir, read_queries, to_trec
from diptych.types import Run

SNAPSHOT = Path(__file__).with_name("refusals.json")
HEAD, QUERY = "query-id\tcorpus-id\tscore\n", '{"_id": "1", "text": "fine"}\n'
QRELS = Qrels({"q1": {"a": 1, "b": 1}, "q2": {"a": 1}, "q3": {"c": 0}}, "qrels.tsv")
TWO = Run("two", {"q": [("a", 0.0), ("b", -1.0)]})
JUDGEMENTS = [
    *(HEAD + "q1\td1\t1\nq1\td2\n", HEAD + "q1\td1\t0.5\n", HEAD + "\td1\t1\n", "qid\tdocid\trelevance\nq1\td1\t1\n"),
    *("q1 0 d1 1\nq1 0 d2 yes\n", "q1 0 d1 1\nq1 d2 1\n", "q1,d1,1\n", "q1 0 d1 1\nq2 0 d1 1\nq1 0 d1 0\n", HEAD, ""),
    *(f"q1\td1\t1\nq1\td2\t{grade}\n" for grade in (str(2**63), str(-(2**63) - 1), "1000001", "9" * 5000, "0x1")),
    *(f"q1\td1\t1\nq1\td2\t{grade}\n" for grade in ("nan", "1e3", "\u0661\ud7ff")),
]
QUERIES = [
    *("{not json}", '["q4", "four"]', '{"_id": "q1"}', '{"text": "words"}', '{"_id": "", "text": "words"}'),
    *('{"_id": true, "text": "words"}', '{"_id": "q1", "text": "  "}', '{"_id": "q1", "text": 3}', QUERY.strip()),
    *("[" * 100_000, '{"_id": "q", "text": ' + "[" * 5000 + "]" * 5000 + "}", '{"_id": ' + "9" * 5000 + "}"),
    *('{"_id": "\\ud800", "text": "a"}', '{"_id": "q", "text": "a \\udfff"}'),
    '{"_id": "q", "text": "' + "a" * 1_000_001 + '"}',
]
RUNS = ["q1 Q0 a 1 0.5", "q1 Q0 b 2 high t", "q1 Q0 a 2 0.4 t", *(f"q1 Q0 c 2 {n} t" for n in ("nan", "inf", "1e999"))]
METRICS = ["ndcg@10", "nDGC@5", "recal@100", "map", "P", "nDCG@ten", "nDCG@0", "nDCG@1.5", "nDCG(gain=2)@10"]
METRICS += ["alpha_nDCG@10", "zzzzzz", "", "nDCG@10; 1"]


def read(reader: Callable[[Path], object], data: str | bytes) -> object:
    """Read a file with this content."""
    path = Path("given")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return reader(path)


def scored(metrics: Any = ("MAP",), **rankings: Any) -> Any:
    return evaluate(Run("mine", rankings), QRELS, metrics)


def beir(split: str, text: str = "") -> object:
    """Read a folder of which a part is missing or wrong."""
    Path("beir/qrels").mkdir(parents=True, exist_ok=True)
    Path("beir/queries.jsonl").write_text(QUERY)
    Path("beir/qrels/test.tsv").write_text(HEAD + "1\td1\t1\n" + text)
    return read_beir("beir", split)


CASES: dict[str, Callable[[], object]] = {
    **{f"qrels {text!a:.60} {len(text)}": partial(read, Qrels.read, text) for text in JUDGEMENTS},
    "qrels no UTF-8": partial(read, Qrels.read, b"\xff\xfe\x00"),
    "qrels cut off": partial(read, Qrels.read, gzip.compress(b"q1 0 d1 2\n")[:-12]),
    "qrels no gzip": partial(read, Qrels.read, b"\x1f\x8bnot gzip"),
    "qrels missing": lambda: Qrels.read("none.tsv"),
    **{f"qrels grade {n % 1000}": partial(Qrels, {"q": {"d": n}}) for n in (2**63, -(2**70), 16**5000)},
    **{f"queries {text:.60} {len(text)}": partial(read, read_queries, QUERY + text + "\n") for text in QUERIES},
    "queries none": partial(read, read_queries, "\n"),
    "beir missing split": lambda: beir("dev"),
    "beir query without text": lambda: beir("test", "q9\td1\t1\n"),
    "beir without qrels": lambda: read_beir("."),
    "beir nowhere": lambda: read_beir("nowhere"),
    **{f"run {text}": partial(read, from_trec, f"q1 Q0 a 1 0.5 t\n{text}\n") for text in RUNS},
    "run empty": partial(read, from_trec, ""),
    **{
        f"write {query!a} {name!a}": partial(to_trec, Run("r", {query: [(name, 1.0)]}), Path("run"))
        for query, name in (("q 1", "a"), ("q1", "a\tb"), ("", "a"), ("q1", ""), ("q", "\ud800"))
    },
    **{f"metric {name}": partial(scored, [name], q1=[("a", 1.0)]) for name in METRICS},
    "metrics none": lambda: scored([], q1=[("a", 1.0)]),
    "metrics a text": lambda: scored("nDCG@10", q1=[("a", 1.0)]),
    "metric not computed": lambda: scored(["P@10"], q1=[("a", 1.0)]).values("MAP"),
    "document twice": lambda: scored(q1=[("a", 3.0), ("b", 2.0), ("a", 1.0)]),
    "score NaN": lambda: scored(q1=[("a", 3.0), ("b", math.nan)]),
    "other data set": lambda: scored(x9=[("a", 1.0)]),
    "ann k": lambda: ann_recall(TWO, TWO, 0),
    "ann other queries": lambda: ann_recall(Run("h", {"q1": []}), TWO, 5),
    "ann no queries": lambda: ann_recall(Run("h", {}), Run("e", {}), 5),
    "ann document twice": lambda: ann_recall(Run("h", {"q": [("a", 0.9), ("a", 0.9)]}), TWO, 5),
}


def test_each_input_is_refused_as_its_snapshot_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = {}
    for name, case in CASES.items():
        with pytest.raises(EvaluationError) as refused:
            case()
        assert len(str(refused.value)) < 1000, name
        parts = {part: str(getattr(refused.value, part)) for part in ("what", "where", "got", "expected", "do")}
        parts["got"] = re.sub(r" at 0x[0-9a-f]+", "", parts["got"])
        found[name] = {part: text for part, text in parts.items() if text}
        str(refused.value).encode()
    assert not Path("run").exists()
    if os.environ.get("DIPTYCH_SNAPSHOTS") == "write":
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())
