"""From a live collection to a better one: mine in it, train, register, plan, apply, while it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Registry
from diptych.evaluate import Qrels, read_queries
from diptych.swap import ApplyOptions
from diptych.training import load_recipe, register
from tiny_training import Told, tiny_bert, write

pytestmark = pytest.mark.slow

CONFIG = """\
store: edge:./qdrant
collection: words
slots:
  dense: {{adapter: sentence-transformers, model: {model}}}   # to be trained
evaluate:
  queries: queries.jsonl
  qrels: gate.tsv
cache: {{enabled: false}}
"""
TRAINING = {"epochs": 12, "evaluate_every": 4, "batch_size": 16, "learning_rate": 5e-3, "max_length": 16}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config, its data beside it, and the collection filled."""
    documents = write(tmp_path)
    path = tmp_path / "diptych.yaml"
    path.write_text(CONFIG.format(model=tiny_bert(tmp_path / "untrained")), encoding="utf-8")
    with Collection.open(path) as words:
        assert words.populate(documents, report_path=tmp_path / "aside.jsonl").new == 60
    return path


def recipe(config: Path, **changes: Any) -> dict[str, Any]:
    folder = config.parent
    data = {"collection": str(config), "queries": str(folder / "queries.jsonl"), "qrels": str(folder / "train.tsv")}
    return {
        "recipe": "contrastive",
        "model": str(folder / "untrained" / "model"),
        "output": str(folder / "runs" / "words"),
        "data": {**data, "dev": {"share": 0.2}},
        "negatives": {"per_query": 2, "last_rank": 20, "slot": "dense", "relative": None},
        "training": TRAINING,
        **changes,
    }


def found_at(collection: Collection, folder: Path) -> list[int]:
    """The rank of each of the gate's documents, 60 where it is not found."""
    judged = Qrels.read(folder / "gate.tsv").judgements
    asked = [query for query in read_queries(folder / "queries.jsonl") if query.id in judged]
    ranks = []
    for query, hits in zip(asked, collection.search_batch(asked, limit=50), strict=True):
        ids = [hit.id for hit in hits]
        (wanted,) = judged[query.id]
        ranks.append(ids.index(wanted) + 1 if wanted in ids else 60)
    return ranks


def test_a_collection_gets_an_encoder_that_was_trained_on_its_own_negatives(config: Path) -> None:
    folder, told, registry = config.parent, Told(), Registry.default()
    training = load_recipe(recipe(config), registry).make(told)
    (sentence,) = training.prepare()
    assert "72 negatives for 36 queries, of 720 candidates" in sentence
    report = training.train()
    assert report.measured["after"]["nDCG@10"] > report.measured["before"]["nDCG@10"] + 0.1

    assert register(config, report.models[0], registry) == "slots.dense"
    text = config.read_text(encoding="utf-8")
    assert "model: ./runs/words" in text
    assert "# to be trained" in text
    with Collection.stored(config) as words:
        before = found_at(words, folder)
        (step,) = words.plan(config).steps
        assert (step.slot, step.points) == ("dense", 60)
        accepted = ApplyOptions(ignore_gate=True)  # 15 judged queries may be too few for a verdict
        assert words.apply(config, accepted).outcome == "cut over"
        after = found_at(words, folder)
    assert np.mean(1 / np.array(after)) > np.mean(1 / np.array(before)) + 0.1
    with Collection.open(config) as words:
        assert found_at(words, folder) == after
        words.rollback()
        assert found_at(words, folder) == before


def test_a_collection_without_judged_queries_is_trained_on_queries_that_were_written(config: Path) -> None:
    data = {
        "collection": str(config),
        "dev": {"share": 0.2},
        "synthetic": {"documents": 60, "density": 2, "styles": ["keywords"]},
    }
    training = load_recipe(recipe(config, data=data), Registry.default()).make(Told())
    written, mined = training.prepare()
    assert "queries for 60 documents" in written
    assert "negatives for" in mined
    report = training.train()
    assert report.measured["after"]["nDCG@10"] > report.measured["before"]["nDCG@10"]


def test_queries_that_were_written_stand_beside_judged_ones_and_are_never_held_out(config: Path) -> None:
    given = recipe(config)
    given["data"] = {**given["data"], "synthetic": {"documents": 20, "density": 1}}
    training: Any = load_recipe(given, Registry.default()).make(Told())
    training.prepare()
    names = set(training.data.qrels)
    written = {name for name in names if "#" in name}
    assert (len(names - written), len(training.held.qrels)) == (36, 9)
    assert 0 < len(written) <= 20
    assert not {name for name in training.held.qrels if "#" in name}
    assert names >= set(training.negatives()), "each has its negatives"
    held = {training.held.queries[name] for name in training.held.qrels}
    assert not held & {training.data.queries[name] for name in written}
