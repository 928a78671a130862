"""`diptych apply` moves a collection to the encoders of the config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from cli_values import edit
from diptych import Registry
from diptych.cli.apply import hint
from diptych.collection.collection import Collection
from diptych.config import Config
from diptych.runtime.phases import watched
from diptych.swap import ApplyOptions

Run = Callable[..., Any]
QUERIES = (("cat on a mat", "cat"), ("barks at the man", "dog"), ("hunts mice", "owl"))


@pytest.fixture
def judgements(tmp_path: Path) -> tuple[str, ...]:
    """Options that name 60 judged queries, enough to decide."""
    return judge(tmp_path, 60)


def judge(folder: Path, count: int) -> tuple[str, ...]:
    """Options that name so many judged queries: the three again and again."""
    asked = [(f"q{n}", *QUERIES[n % len(QUERIES)]) for n in range(count)]
    queries = "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text, _ in asked)
    (folder / "queries.jsonl").write_text(queries)
    rows = "".join(f"{key}\t{document}\t1\n" for key, _, document in asked)
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return "--queries", "queries.jsonl", "--qrels", "qrels.tsv"


def test_what_becomes_of_a_threshold_is_said_once_by_the_gate_that_measures_it(
    run: Run, config: Path, corpus: Path, judgements: tuple[str, ...]
) -> None:
    assert run("populate", corpus).code == 0
    edit(config, "  limit: 3\n", "  limit: 3\n  score_threshold: 0.01\n  fuse: {kind: dbsf}\n")
    assert run("apply", "--ignore-gate").code == 0
    edit(config, "kind: dbsf", "kind: rrf")
    assert "score_threshold 0.01 is stale" in run("plan").err
    answer = run("apply", "--ignore-gate", *judgements)
    assert answer.code == 0
    assert (answer.out + answer.err).count("score_threshold 0.01 ") == 1


def test_without_a_terminal_each_phase_is_a_line_on_standard_error_but_beside_json(edited: Run) -> None:
    said = edited("apply", "--no-cut-over").err.splitlines()
    phases = ("compare the config with the collection", "create the new vectors", "fill the new vectors")
    expected = [*phases, "encoding 4 documents: 100 %", "gate: compare the new pipeline with the old one"]
    assert [line for line in said if line.removesuffix(" ...") in expected] == [f"{line} ..." for line in expected]
    assert edited("apply", "--json").err == ""


def test_the_progress_line_says_what_the_gate_compares(edited: Run, judgements: tuple[str, ...]) -> None:
    told: list[str] = []
    with watched(told.append):
        assert edited("apply", "--no-cut-over").code == 0
        assert edited("apply", *judgements).code == 0
    documents, judged = "gate: search up to 4 documents by their own words", "gate: search up to 60 judged queries"
    steps = list(dict.fromkeys(text for text in told if text.startswith("gate: search")))
    assert steps[:4] == [documents, f"{documents}: 4 of 4", judged, f"{judged}: 8 of 60"]
    assert steps[-1] == f"{judged}: 60 of 60"


def test_texts_that_payloads_do_not_hold_come_from_the_source(
    edited: Run, config: Path, corpus: Path, registry: Registry
) -> None:
    with Collection.stored(config, registry=registry) as collection:
        collection.client.delete_payload("animals", ["text"], models.Filter())
    assert "give apply the documents with --source FILE" in edited("plan").err
    answer = edited("apply")
    assert answer.code == 5
    assert "4 points have no new vector" in answer.err
    assert "no text in the payload" in answer.err
    answer = edited("apply", "--source", corpus)
    assert (answer.code, "no answers of both pipelines could be compared" in answer.out) == (7, True)
    assert "with judgements" not in answer.out, "no judgements refused it"
    answer = edited("apply", "--source", corpus, "--unmeasured")
    assert answer.code == 0
    assert edited("search", "hunts mice", "--only", "dense").out.split("\t")[3] == "owl"


def test_what_ctrl_c_leaves_behind_depends_on_whether_the_cut_over_is_done(fakes: Registry) -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    config = {"store": "memory:", "collection": "c", "slots": slots}
    with Collection.open(config, registry=fakes) as collection:
        collection.populate([{"id": "1", "text": "word"}])
        told = hint(collection)
        assert told().startswith("nothing is lost and the collection answers as before; to continue: diptych apply")
        assert "rollback" not in told()  # no swap has begun, so a rollback would undo an earlier cut-over
        slots["dense"]["seed"] = 1  # type: ignore[assignment]
        collection.apply(Config.model_validate(config), ApplyOptions(gate=False))
        assert told().startswith("the new encoders answer already; old vectors are dropped by the next diptych finish")
