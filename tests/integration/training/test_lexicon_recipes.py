"""The recipes of lexicons, from files to a collection that is searched by what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Registry
from diptych.config import load_config
from diptych.training import TrainReport, load_recipe, register
from tiny_lexicon import WORDS, tiny_masked_model
from tiny_training import Told

DOCUMENTS = 32
TRAINING = {"epochs": 10, "batch_size": 16, "learning_rate": 5e-3, "device": "cpu", "evaluate_every": 30}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents of a word for their subject and others that mean nothing; queries that call the subject otherwise."""
    tiny_masked_model(tmp_path / "bert", spread=0.1)
    random = np.random.default_rng(0)
    documents = [
        {"_id": f"d{n}", "text": f"{WORDS[n % 16]} {' '.join(random.choice(WORDS[40:], 6))}"} for n in range(DOCUMENTS)
    ]
    queries = [{"_id": f"q{n}", "text": f"{WORDS[16 + n % 16]} {WORDS[40 + n % 5]}"} for n in range(48)]
    relevant = [
        (query, document) for query in range(48) for document in range(DOCUMENTS) if query % 16 == document % 16
    ]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = ["query-id\tcorpus-id\tscore", *(f"q{query}\td{document}\t1" for query, document in relevant)]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    return tmp_path


def trained(folder: Path, recipe: str, **options: Any) -> TrainReport:
    data = {
        name: str(folder / file)
        for name, file in (("corpus", "corpus.jsonl"), ("queries", "queries.jsonl"), ("qrels", "train.tsv"))
    }
    given = {
        "model": str(folder / "bert"),
        "output": str(folder / "run"),
        "data": data,
        "training": TRAINING,
        **options,
    }
    return load_recipe({"recipe": recipe, **given}, Registry()).make(Told()).train()


def found(folder: Path, report: TrainReport) -> tuple[float, dict[str, Any]]:
    """Precision of the first two hits in a collection that the trained model fills and searches, and its slot."""
    config = folder / "diptych.yaml"
    config.write_text("store: edge:./store\ncollection: c\nslots:\n  lexical: {adapter: bm25, language: english}\n")
    assert register(config, report.models[0], Registry()) == "slots.lexical"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    with Collection.open(load_config(config)) as collection:
        collection.populate([Document(row["_id"], row["text"]) for row in rows], report_path=folder / "report.jsonl")
        hits = collection.search_batch([WORDS[16 + n] for n in range(16)], limit=2)
    right = [int(hit.document.id[1:]) % 16 == n for n, own in enumerate(hits) for hit in own]
    return float(np.mean(right)), load_config(config).slots["lexical"].options


@pytest.mark.slow
@pytest.mark.parametrize(("queries", "trained_as"), [("encoder", "masked-lm"), ("bag", None), ("static", None)])
def test_splade_learns_what_words_mean_and_is_searched(folder: Path, queries: str, trained_as: str | None) -> None:
    report = trained(folder, "splade", queries=queries, sparsity={"query": 0.01, "document": 0.01})
    before, after = report.measured["before"], report.measured["after"]
    assert after["nDCG@10"] > before["nDCG@10"] + 0.2
    assert after["document terms"] < before["document terms"]
    assert report.models[0].options.get("trained_as") == trained_as
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in log if "loss" in entry]
    assert all(0 < entry["document_active_terms"] <= 65 and entry["query_active_terms"] > 0 for entry in steps)
    assert steps[0]["document_regularizer_weight"] < steps[-1]["document_regularizer_weight"] == 0.01
    precision, options = found(folder, report)
    assert precision > 0.4  # chance is 1 of 16
    assert options.get("trained_as") == trained_as
