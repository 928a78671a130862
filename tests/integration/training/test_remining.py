"""Negatives that the model mines anew while it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diptych.training import TrainReport, load_recipe
from diptych_training.corpus import TrainingData
from diptych_training.recipes.cprd import Cprd
from every_recipe import REGISTRY, options_of, write_world
from tiny_models import cross_encoder
from tiny_training import Stopping, Told

EPOCHS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    cross_encoder(folder / "made", seed=1).save_pretrained(str(folder / "reranker"))
    return folder


def options(world: Path, output: Path, *, recipe: str = "cprd", **changes: Any) -> Any:
    given = options_of(recipe, world, output)
    return load_recipe({**given, **changes}, REGISTRY).options


def reranker(world: Path) -> dict[str, Any]:
    options = {"model": str(world / "reranker"), "device": "cpu"}
    return {"adapter": "cross-encoder", "options": options, "check": False}  # it is untrained


class Watched(Cprd):
    """Keeps the ranking of all documents for each query, as it is whenever negatives are mined."""

    ranked: list[dict[str, list[str]]]

    def train(self) -> TrainReport:
        self.ranked = []
        return super().train()

    def remined(self, model: Any) -> Any:
        self.ranked.append(ranked(model, self.data))
        return super().remined(model)


def ranked(model: Any, data: TrainingData) -> dict[str, list[str]]:
    names = list(data.documents)
    queries = model.encode_query([data.queries[query] for query in data.qrels], show_progress_bar=False)
    scores = queries @ model.encode_document(list(data.documents.values()), show_progress_bar=False).T
    return {query: [names[place] for place in (-own).argsort()] for query, own in zip(data.qrels, scores, strict=True)}


def kept(run: Path, epoch: int) -> dict[str, list[str]]:
    rows = [json.loads(line) for line in (run / "data" / f"negatives-{epoch}.jsonl").read_text().splitlines()]
    return {row["query"]: row["documents"] for row in rows}


@pytest.mark.slow
def test_each_epoch_has_the_negatives_of_the_model_as_it_is_then(world: Path, tmp_path: Path) -> None:
    recipe = Watched(options(world, tmp_path / "run"), Told())
    recipe.train()
    assert len(recipe.ranked) == EPOCHS - 1
    for epoch, found in enumerate(recipe.ranked, 1):
        others = {query: [name for name in own if name not in recipe.data.qrels[query]] for query, own in found.items()}
        assert kept(tmp_path / "run", epoch) == {query: own[:2] for query, own in others.items()}
    assert kept(tmp_path / "run", 1) != kept(tmp_path / "run", EPOCHS - 1)
    assert kept(tmp_path / "run", 1) != {query: own[:2] for query, own in recipe.negatives().items()}
    assert any("of the negatives by the model as it is are others" in said for said in recipe.watcher.sentences)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_reranker_is_asked_for_what_is_new_and_for_nothing_twice(world: Path, tmp_path: Path) -> None:
    recipe = Watched(options(world, tmp_path / "run", teacher=reranker(world), negatives={"per_query": 3}), Told())
    recipe.train()
    pairs = [json.loads(line) for line in (tmp_path / "run" / "data" / "pairs.jsonl").read_text().splitlines()[1:]]
    asked = [(pair["query"], pair["document"]) for pair in pairs]
    every = [recipe.negatives(), *(kept(tmp_path / "run", epoch) for epoch in range(1, EPOCHS))]
    wanted = {(query, name) for lists in every for query, own in lists.items() for name in own}
    relevant = {(query, name) for query in recipe.data.qrels for name in recipe.data.relevant(query)}
    assert sorted(asked) == sorted(wanted | relevant)
    assert len(wanted) > sum(map(len, recipe.negatives().values()))


@pytest.mark.slow
def test_a_training_that_goes_on_within_an_epoch_has_that_epochs_negatives(world: Path, tmp_path: Path) -> None:
    training = {**options_of("cprd", world, tmp_path)["training"], "evaluate_every": 5}  # an epoch has three steps
    given: dict[str, Any] = {"teacher": reranker(world), "training": training}
    ends = []
    for name in ("whole", "again"):
        asked = options(world, tmp_path / name, **given)
        if name == "again":
            with pytest.raises(InterruptedError):
                Cprd(asked, Stopping(8)).train()
        report = Cprd(asked, Told()).train()
        assert report.resumed_at == (5 if name == "again" else 0)
        ends.append(load_file(tmp_path / name / "model.safetensors"))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-5)
