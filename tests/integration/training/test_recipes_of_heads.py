"""Recipes whose models have several heads: trained for some steps, and searched with as any other model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection
from diptych.errors import ConfigError
from diptych.registry import Registry
from diptych.training import TrainReport, load_recipe, read_documents
from diptych_experimental import hooks as experimental
from diptych_training import hooks
from tiny_encoders import WORDS, tiny_encoder
from tiny_training import Told, lines

TRAINING = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "device": "cpu", "evaluate_every": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, 24 documents, a query for each, judgements of the first 16 queries, a teacher's scores."""
    tiny_encoder(tmp_path / "bert", layers=2).save_pretrained(str(tmp_path / "model"), create_model_card=False)
    documents = [{"_id": f"d{n}", "text": " ".join(WORDS[n : n + 3])} for n in range(24)]
    queries = [{"_id": f"q{n}", "text": WORDS[n]} for n in range(24)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [f"q{n}\td{n}\t1\n" for n in range(16)]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    scores = (
        {"query": f"q{n}", "scores": {f"d{m}": 4.0 if m == n else -abs(m - n) / 4 for m in range(24)}}
        for n in range(24)
    )
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    return tmp_path


def registry() -> Registry:
    """With the recipes of the package, whether or not it is installed."""
    found = Registry()
    return found if "multi_exit" in [spec.name for spec in found.recipes.sorted()] else Registry(hooks, experimental)


def asked(folder: Path, **options: Any) -> dict[str, Any]:
    """A recipe's options in `folder`; `data` and `training` may be changed."""
    data = {name: str(folder / file) for name, file in FILES.items()}
    common = {"model": str(folder / "model"), "output": str(folder / "run"), "seed": 1}
    training = {**TRAINING, **options.pop("training", {})}
    return {**common, "data": {**data, **options.pop("data", {})}, "training": training, **options}


def trained(folder: Path, recipe: str, **options: Any) -> TrainReport:
    """The report of a training."""
    report = load_recipe({"recipe": recipe, **asked(folder, **options)}, registry()).make(Told()).train()
    assert report.steps > 0
    assert not (folder / "run" / "checkpoints").exists()
    return report


FILES = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.tsv"}


def searched(folder: Path, slots: Mapping[str, Any], query: str, **search: Any) -> list[str]:
    """The ids of what a new collection in memory finds."""
    config = {"store": "memory:", "collection": "tried", "slots": dict(slots), "search": search}
    with Collection.open(config) as collection:
        assert collection.populate(read_documents(folder / "corpus.jsonl")).new == 24
        return [hit.id for hit in collection.search(query, limit=5)]


def of(report: TrainReport, name: str = "") -> dict[str, Any]:
    """The slot of a trained model."""
    (found,) = (one for one in report.models if one.name == name)
    return {"adapter": found.adapter, **found.options}


def test_an_early_exit_fetches_and_the_deep_one_rescores(folder: Path) -> None:
    report = trained(folder, "multi_exit", exits={"layers": [1, 2]}, training={"epochs": 12})
    assert set(report.measured) == {"before", "after", "exit_1"}
    slots = {"early": of(report, "exit_1"), "deep": of(report)}
    assert slots["early"]["model"] == str(folder / "run" / "exit_1")
    found = searched(folder, slots, WORDS[3], retrieve={"early": 10}, rescore={"slot": "deep", "candidates": 10})
    assert found[0] in {"d1", "d2", "d3"}


def test_exits_are_measured_in_the_precision_of_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer that an exit asks computes as the training does."""
    import torch

    seen: list[bool] = []
    linear = torch.nn.functional.linear

    def watched(*given: Any, **more: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return linear(*given, **more)

    options = asked(folder, exits={"layers": [1, 2]}, training={"precision": "bfloat16"})
    recipe: Any = load_recipe({"recipe": "multi_exit", **options}, registry()).make(Told())
    model = recipe.model()
    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    recipe.export(model)
    assert recipe.measured_parts["exit_1"]["nDCG@10"] > 0
    assert seen
    assert all(seen)


@pytest.mark.parametrize("recipe", ["distill", "cprd"])
def test_a_teacher_that_ranks_no_better_than_the_model_is_refused(folder: Path, recipe: str) -> None:
    given = {"negatives": {"per_query": 2, "relative": None}}
    taught = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    worse = [{**row, "scores": {name: -own for name, own in row["scores"].items()}} for row in taught]
    lines(folder / "worse.jsonl", worse)
    for scores, check in (("worse", True), ("worse", False), ("scores", True)):
        teacher = {"scores": str(folder / f"{scores}.jsonl"), "check": check}
        asked_for = {"recipe": recipe, **asked(folder, **{**given, "teacher": teacher})}
        made: Any = load_recipe({**asked_for, "output": str(folder / f"{scores}-{check}")}, registry()).make(Told())
        if (scores, check) == ("worse", True):
            with pytest.raises(ConfigError, match=r"(?s)teacher is not better than the model.*do: .*teacher.check"):
                made.prepare()
        else:
            done = made.prepare()
            assert ("nDCG@10 1.000 of the teacher" if check else "was not checked, as teacher.check says") in done[0]


@pytest.mark.slow
def test_texts_find_their_class_by_its_prototype(folder: Path) -> None:
    classes = ["even words", "odd words"]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"c{n}", "text": classes[n]}) + "\n" for n in (0, 1))
    )
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\tc{n % 2}\t1\n" for n in range(24))
    )
    report = trained(
        folder, "prototype_tuning", prompt={"tokens": 2}, training={"epochs": 20}, data={"dev": {"share": 0}}
    )
    config = {"store": "memory:", "collection": "classes", "slots": {"dense": of(report)}}
    with Collection.open(config) as collection:
        collection.populate(read_documents(folder / "corpus.jsonl"))
        right = [collection.search(WORDS[n], limit=1)[0].id == f"c{n % 2}" for n in range(24)]
    assert sum(right) >= 20


def test_texts_alone_adapt_an_encoder(folder: Path) -> None:
    report = trained(folder, "cmim", information={"heads": 2})
    assert set(report.measured) == {"before", "after"}
    assert searched(folder, {"dense": of(report)}, f"{WORDS[3]} {WORDS[4]} {WORDS[5]}")[0] == "d3"
    losses = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    told = [row["reconstruction"] for row in losses if "reconstruction" in row]
    assert told[-1] < told[0]


def test_what_does_not_go_with_a_recipe_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match="mini_batch_size does not go with several exits"):
        trained(folder, "multi_exit", exits={"layers": [1]}, training={"mini_batch_size": 4})
    with pytest.raises(ConfigError, match="the encoder is frozen"):
        trained(folder, "prototype_tuning", training={"lora": {"rank": 2}})
    with pytest.raises(ConfigError, match="queries and qrels go together"):
        trained(folder, "cmim", data={"qrels": None})
