"""`diptych tune index`: what it prints of what was measured, and what it says when it cannot measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diptych.config import parse_config
from diptych.config.models import SearchParams
from diptych.config.storage import VectorStorage
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


def test_the_config_beneath_the_table_can_be_pasted() -> None:
    pasted = YAML(typ="safe").load("\n".join(str(part) for part in REPORT.display().parts[3:]))
    slots = {"dense": {"adapter": "fake-dense", **pasted["slots"]["dense"]}}
    read = parse_config({"collection": "c", "slots": slots, "search": pasted["search"]})
    assert (read.slots["dense"].storage, read.search.params) == (TURBO.storage, TURBO.params)


@pytest.mark.slow
def test_a_whole_run_gives_a_document_with_the_config_of_each_row(run: Run, config: Path, tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(words[(n * step) % 40] for step in (1, 3, 7, 11)) + f" n{n}" for n in range(150)]
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text("\n".join(lines[:20]))
    run("populate", tmp_path / "many.jsonl")
    asked = ("--queries", "queries.jsonl", "--recall", "0.9", "--points", "9999999")
    answer = run("tune", "index", *asked, "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert (found["slot"], found["sample"], found["queries"], found["held_out"]) == ("dense", 150, 20, False)
    assert [row["now"] for row in found["rows"]].count(True) == 1
    assert found["chosen"]["recall"] >= 0.9
    assert {"first 32 x1", "first 32 x4", "product x16", "float16"} < {row["stored"] for row in found["rows"]}
    for row in found["rows"]:
        slots = {"dense": {"adapter": "fake-dense", **row["config"].get("slots", {}).get("dense", {})}}
        parse_config({"collection": "c", "slots": slots, "search": row["config"].get("search", {})})
