"""`diptych tune encoder`: budgets, what it prints, and what it writes into a config."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from diptych.config.models import SearchParams
from diptych.config.storage import VectorStorage
from diptych.display import json_text
from diptych_lab.cli.tune import document, set_encoder
from diptych_lab.tune import EncoderChoice, EncoderReport, EncoderRow, Setup
from diptych_lab.tune.trials import Against

Run = Callable[..., Any]
NOW = Setup(VectorStorage(), now=True)
TURBO = Setup(
    VectorStorage.model_validate({"quantization": {"kind": "turbo", "bits": "bits4"}, "on_disk": True}),
    SearchParams(rescore=True, oversampling=2),
)


def row(documents: str, queries: str, width: int, setup: Setup, **more: Any) -> EncoderRow:
    facts = {"value": 0.8, "error": 0.01, "overlap": 0.9, "milliseconds": 1.5, "encoding": 1.0, "size": 48, **more}
    return EncoderRow(documents, queries, width, width < 64, setup, **facts)


def report(chosen: EncoderRow, models: Path) -> EncoderReport:
    choices = {
        "now": EncoderChoice("now", "fake-dense", {"model": str(models / "big"), "seed": 1}),
        "exit_2": EncoderChoice("exit_2", "fake-dense", {"model": str(models / "big" / "exit_2"), "seed": 1}),
        "table": EncoderChoice("table", "static", {"model": str(models / "table")}, documents=False),
    }
    rows = (chosen, row("now", "now", 64, NOW, milliseconds=9.0, size=256))
    gain = Against("the present pipeline", -0.01, -0.02, 0.001, None)
    return EncoderReport(
        "c", "dense", 60, 500, 900, choices, rows, 1, 0, gain, False, True, True, (("table", "now"),), 2.0
    )


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (
            row("now", "exit_2", 64, NOW),
            {"adapter": "fake-dense", "model": "./m/big", "seed": 1, "query": {"student": "./m/big/exit_2", "seed": 1}},
        ),
        (
            row("now", "table", 32, NOW),
            {
                "adapter": "fake-dense",
                "model": "./m/big",
                "seed": 1,
                "truncate_dim": 32,
                "query": {"adapter": "static", "student": "./m/table", "truncate_dim": 32},
            },
        ),
        (row("exit_2", "exit_2", 64, NOW), {"adapter": "fake-dense", "model": "./m/big/exit_2", "seed": 1}),
        (
            row("now", "now", 32, TURBO),
            {
                "adapter": "fake-dense",
                "model": "./m/big",
                "seed": 1,
                "query": {"student": "./m/old", "truncate_dim": 32},
                "truncate_dim": 32,
                "storage": {"quantization": {"kind": "turbo", "bits": "bits4"}, "on_disk": True},
            },
        ),
    ],
    ids=["exit for queries", "another adapter, cut", "exit for both", "cut and quantized"],
)
def test_the_config_gets_what_was_chosen_and_keeps_the_rest(
    chosen: EncoderRow, wanted: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("big/exit_2", "table", "old"):
        (tmp_path / "m" / name).mkdir(parents=True)
    slot = {"adapter": "fake-dense", "model": "./m/big", "seed": 1, "query": {"student": "./m/old"}}
    raw: dict[str, Any] = {
        "slots": {"dense": slot, "other": {"adapter": "x"}},
        "search": {"params": {"hnsw_ef": 50, "rescore": False}},
    }
    set_encoder(raw, report(chosen, tmp_path / "m"), tmp_path / "diptych.yaml")
    assert raw["slots"]["dense"] == wanted
    assert raw["slots"]["other"] == {"adapter": "x"}
    params = (
        {"hnsw_ef": 50, "rescore": False} if chosen.setup.now else {"hnsw_ef": 50, "rescore": True, "oversampling": 2}
    )
    assert raw["search"] == {"params": params}


def test_a_choice_that_does_not_pass_says_what_stays(tmp_path: Path) -> None:
    found = report(row("now", "exit_2", 32, TURBO), tmp_path)
    assert replace(found, fits=True, passed=False).verdict.endswith("the present way stays unless it is to cost less")
    assert replace(found, fits=True, gain=Against("", 0.1, 0.05, 0.2, None)).verdict.endswith(
        "better than the present way"
    )
    assert replace(found, chosen=1, gain=None).verdict.endswith("it stays")
    assert json.loads(json_text(document(found)))["rows"][0]["config"]["search"]["params"] == {
        "rescore": True,
        "oversampling": 2,
    }


@pytest.mark.slow
def test_a_whole_run_prints_and_writes_a_config_that_can_be_read(
    run: Run, config: Path, corpus: Path, tmp_path: Path
) -> None:
    run("populate", corpus)
    answer = run("tune", "encoder", "--max-bytes", "64", "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    assert (found["slot"], found["synthetic"], found["passed"], found["written"]) == ("dense", True, False, "")
    assert found["rows"][-1]["now"]
    refused = run("tune", "encoder", "--with", "nowhere", "--json")
    assert (refused.code, refused.error()["what"]) == (1, "there is no such model folder")
    lines = [{"_id": f"q{n}", "text": text} for n, text in enumerate(["cat", "owl", "hen", "dog"] * 3)]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = ["cat", "owl", "hen", "dog"] * 3
    (tmp_path / "qrels.tsv").write_text("".join(f"q{n}\t{name}\t1\n" for n, name in enumerate(ids)))
    judged = ("--queries", tmp_path / "queries.jsonl", "--qrels", tmp_path / "qrels.tsv")
    written = run("tune", "encoder", *judged, "--max-bytes", "64", "--write")
    assert written.code == 0, written.err
    assert "wrote slots.dense, search.params" in written.out
    storage = YAML(typ="safe").load(config.read_text())["slots"]["dense"]["storage"]
    assert storage["quantization"]
    assert run("plan").code == 0
