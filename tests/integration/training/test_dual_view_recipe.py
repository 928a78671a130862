"""The recipe `dual_view` on instructions to mention a word, or not to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from diptych import Registry
from diptych.errors import ConfigError
from diptych.training import load_recipe
from diptych_experimental.dual_view import TrainingView, instruction_measures
from tiny_training import WORDS, Told, lines, tiny_bert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty topics, for each four documents, two of which mention the word; instructions on both kinds."""
    documents, instances = [], []
    for topic in range(20):
        word = WORDS[30 + topic % 5]
        for n in range(4):
            said = [WORDS[topic], WORDS[40 + (topic + n) % 15], word if n < 2 else WORDS[36]]
            documents.append({"_id": f"t{topic}n{n}", "text": " ".join(said)})
        having, lacking = f"t{topic}n{topic % 2}", f"t{topic}n{2 + topic % 2}"
        must = {"query": WORDS[topic], "instruction": f"must mention {word}", "positive": having, "negative": lacking}
        other = {**must, "instruction": f"must not mention {word}", "positive": lacking, "negative": having}
        instances.append(must if topic % 3 else other)
    lines(tmp_path / "corpus.jsonl", documents)
    lines(tmp_path / "instances.jsonl", instances)
    tiny_bert(tmp_path / "untrained")
    return tmp_path


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "recipe": "dual_view",
        "model": str(folder / "untrained" / "model"),
        "output": str(folder / "run"),
        "data": {
            "instances": str(folder / "instances.jsonl"),
            "corpus": str(folder / "corpus.jsonl"),
            "share": 0.2,
        },
        "loss": {"tau": 0.1},
        "training": {"epochs": 60, "batch_size": 16, "learning_rate": 5e-3, "max_length": 16},
        **changes,
    }


@pytest.mark.slow
def test_held_out_pairs_are_searched_and_the_trained_views_are_learned(folder: Path) -> None:
    training: Any = load_recipe(recipe(folder), Registry.default()).make(Told())
    assert training.prepare() == ["views: 32 of 16 instances", "held_views: 8 of 4 instances"]
    report = training.train()
    assert set(report.measured["after"]) >= {"nDCG@10", "flip accuracy", "p-MRR"}
    assert report.measured["after"]["nDCG@10"] > report.measured["before"]["nDCG@10"]
    model = SentenceTransformer(report.folder, device="cpu")
    rows = training.folder.stored("views")
    views = [TrainingView(r["query"], r["instruction"], r["positive"], tuple(r["negatives"]), r["group"]) for r in rows]
    texts = training.documents
    assert instruction_measures(model, views, texts)["flip accuracy"] > 0.8
    assert load_recipe(recipe(folder), Registry.default()).make(Told()).prepare() == []


@pytest.mark.parametrize(("views", "replace", "rows"), [(True, True, 16), (False, False, 16), (True, False, 32)])
def test_rows_are_as_many_as_is_asked(folder: Path, views: bool, replace: bool, rows: int) -> None:
    training: Any = load_recipe(recipe(folder, views=views, replace=replace), Registry.default()).make(Told())
    training.prepare()
    assert len(training.folder.stored("views")) == rows
    assert len(training.folder.stored("held_views")) == 8, "what is held out has both views in any case"


def test_a_model_that_ignores_instructions_flips_half_and_has_no_p_mrr() -> None:
    class Blind:
        def encode_document(self, texts: list[str], **given: Any) -> torch.Tensor:
            return torch.tensor([[float(len(text)), 1.0] for text in texts])

        def encode_query(self, texts: list[str], **given: Any) -> torch.Tensor:
            return torch.tensor([[1.0, float(len(text.split()[0]))] for text in texts])

        def similarity(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left @ right.T

    documents = {"a": "one", "b": "three", "c": "eleven"}
    views = [TrainingView("q", "with", "a", ("b",), 0), TrainingView("q", "without", "b", ("a",), 0)]
    assert instruction_measures(Blind(), views, documents) == {"flip accuracy": 0.5, "p-MRR": 0.0}


def test_nothing_to_train_on_is_said(folder: Path) -> None:
    (folder / "instances.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)no training views are left.*data.instances"):
        load_recipe(recipe(folder), Registry.default()).make(Told()).train()
