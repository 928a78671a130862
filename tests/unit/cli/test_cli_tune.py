"""`diptych tune index`: what it prints of what was measured, and what it says when it cannot measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diptych.config import parse_config
from diptych.config.models import SearchParams, VectorStorage
from diptych_lab.cli.tune import show
from diptych_lab.tune import IndexReport, IndexRow, Setup

Run = Callable[..., Any]
PLAIN = Setup(VectorStorage(), now=True)
TURBO = Setup(
    VectorStorage.model_validate({"quantization": {"kind": "turbo", "bits": "bits2"}, "on_disk": True}),
    SearchParams(rescore=True, oversampling=4),
)
ROWS = (
    IndexRow(TURBO, 0.991, 0.32, 0.7, 250.4, 1786.0, 3.0, front=True),
    IndexRow(PLAIN, 0.998, 0.41, 0.9, 1690.0, 1690.0, 2.5, front=True),
)
REPORT = IndexReport(
    "packages", "dense", 384, "cosine", 57_980, 57_980, 10_000, 200, True, 10, ROWS, ROWS[0], "least memory", True
)


def test_the_table_marks_front_and_choice_and_the_config_beneath_can_be_pasted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(REPORT)
    out = capsys.readouterr().out
    assert "packages, slot dense: 57,980 vectors of 384" in out
    assert "10,000 of them indexed as in a collection of 57,980; 200 held-out vectors asked" in out
    assert [" ".join(line.split()) for line in out.splitlines() if line[:2] in ("1 ", "2 ")] == [
        "1 ★● turbo bits2 rescore x4 0.991 0.32 ms 0.70 ms 250 bytes 1.8 kB 3.0 s",
        "2 ● float32 (now) default 0.998 0.41 ms 0.90 ms 1.7 kB 1.7 kB 2.5 s",
    ]
    assert "★ 1: least memory" in out
    pasted = YAML(typ="safe").load("\n".join(line for line in out.splitlines() if line.startswith("  ")))
    slots = {"dense": {"adapter": "fake-dense", **pasted["slots"]["dense"]}}
    read = parse_config({"collection": "c", "slots": slots, "search": pasted["search"]})
    assert (read.slots["dense"].storage, read.search.params) == (TURBO.storage, TURBO.params)


def test_a_recall_that_no_setup_reaches_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    show(replace(REPORT, chosen=ROWS[1], reached=False, rule="least memory with a recall of 0.999 or more"))
    shown = capsys.readouterr()
    assert "warning: nothing is of least memory with a recall of 0.999 or more; this one comes closest" in shown.err
    assert "★ 2: highest recall" in shown.out
    assert "it is what an empty storage section gives" in shown.out


@pytest.mark.slow
def test_a_whole_run_gives_a_document_with_the_config_of_each_row_and_a_page(
    run: Run, config: Path, tmp_path: Path
) -> None:
    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(words[(n * step) % 40] for step in (1, 3, 7, 11)) + f" n{n}" for n in range(150)]
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text("\n".join(lines[:20]))
    run("populate", tmp_path / "many.jsonl")
    asked = ("--queries", "queries.jsonl", "--prefix", "40", "--recall", "0.9", "--points", "9999999")
    answer = run("tune", "index", *asked, "--html", "p.html", "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert (found["slot"], found["sample"], found["queries"], found["held_out"]) == ("dense", 150, 20, False)
    assert [row["now"] for row in found["rows"]].count(True) == 1
    assert found["chosen"]["recall"] >= 0.9
    assert {"first 40 x1", "first 40 x4", "product x16", "float16"} < {row["stored"] for row in found["rows"]}
    for row in found["rows"]:
        slots = {"dense": {"adapter": "fake-dense", **row["config"].get("slots", {}).get("dense", {})}}
        parse_config({"collection": "c", "slots": slots, "search": row["config"].get("search", {})})
    assert "<svg" in (tmp_path / "p.html").read_text()


def test_what_cannot_be_tuned_is_refused_before_anything_is_built(run: Run, config: Path, corpus: Path) -> None:
    assert run("tune", "index", "--json").error()["kind"] == "CollectionNotFound"
    run("populate", corpus)
    for options, what in (
        (("--slot", "lexical"), "only dense slots are tuned"),
        (("--slot", "nothing"), "the collection has no slot 'nothing'"),
        ((), "too few vectors for a measurement"),
    ):
        answer = run("tune", "index", *options, "--json")
        assert answer.code == 1
        assert answer.error()["what"] == what


def test_tune_alone_shows_what_can_be_tuned(run: Run) -> None:
    answer = run("tune")
    assert "index" in answer.out + answer.err
    assert "Measure graphs, quantization and first stages" in answer.out + answer.err
