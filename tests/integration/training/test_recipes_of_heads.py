"""Recipes whose models have several heads: trained for some steps, and searched with as any other model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection
from diptych.errors import ConfigError
from diptych.training import TrainReport, read_documents
from every_recipe import CLASSES, COUNT, made, options_of, write_world
from tiny_encoders import WORDS
from tiny_training import Told, lines


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_world(tmp_path)
    return tmp_path


def trained(recipe: str, world: Path, epochs: int = 4, **data: Any) -> TrainReport:
    given = options_of(recipe, world, world / "run", epochs=epochs)
    report: TrainReport = made({**given, "data": {**given["data"], **data}}, Told()).train()
    assert report.steps > 0
    assert not (world / "run" / "checkpoints").exists()
    return report


def searched(world: Path, slots: Mapping[str, Any], query: str, **search: Any) -> list[str]:
    """The ids of what a new collection in memory finds."""
    config = {"store": "memory:", "collection": "tried", "slots": dict(slots), "search": search}
    with Collection.open(config) as collection:
        assert collection.populate(read_documents(world / "corpus.jsonl")).new == COUNT
        return [hit.id for hit in collection.search(query, limit=5)]


def of(report: TrainReport, name: str = "") -> dict[str, Any]:
    """The slot of a trained model."""
    (found,) = (one for one in report.models if one.name == name)
    return {"adapter": found.adapter, **found.options}


def test_an_early_exit_fetches_and_the_deep_one_rescores(world: Path) -> None:
    report = trained("multi_exit", world, epochs=12)
    assert set(report.measured) == {"before", "after", "exit_1"}
    slots = {"early": of(report, "exit_1"), "deep": of(report)}
    assert slots["early"]["model"] == str(world / "run" / "exit_1")
    found = searched(world, slots, WORDS[3], retrieve={"early": 10}, rescore={"slot": "deep", "candidates": 10})
    assert found[0] in {"d1", "d2", "d3"}


def test_a_teacher_that_ranks_no_better_than_the_model_is_refused(world: Path) -> None:
    taught = [json.loads(line) for line in (world / "scores.jsonl").read_text().splitlines()]
    worse = [{**row, "scores": {name: -own for name, own in row["scores"].items()}} for row in taught]
    lines(world / "worse.jsonl", worse)
    for scores, check in (("worse", True), ("worse", False), ("scores", True)):
        teacher = {"scores": str(world / f"{scores}.jsonl"), "check": check}
        recipe = made({**options_of("cprd", world, world / f"{scores}-{check}"), "teacher": teacher}, Told())
        if (scores, check) == ("worse", True):
            with pytest.raises(ConfigError, match=r"(?s)teacher is not better than the model.*do: .*teacher.check"):
                recipe.prepare()
        else:
            done = recipe.prepare()
            assert ("nDCG@10 1.000 of the teacher" if check else "was not checked, as teacher.check says") in done[0]


@pytest.mark.slow
def test_texts_find_their_class_by_its_prototype(world: Path) -> None:
    report = trained("prototype_tuning", world, epochs=20, dev={"share": 0})
    config = {"store": "memory:", "collection": "classes", "slots": {"dense": of(report)}}
    with Collection.open(config) as collection:
        collection.populate(read_documents(world / "classes.jsonl"))
        right = [collection.search(WORDS[n], limit=1)[0].id == f"c{n % len(CLASSES)}" for n in range(COUNT)]
    assert sum(right) >= 18


def test_texts_alone_adapt_an_encoder(world: Path) -> None:
    report = trained("cmim", world)
    assert set(report.measured) == {"before", "after"}
    assert searched(world, {"dense": of(report)}, f"{WORDS[3]} {WORDS[4]} {WORDS[5]}")[0] == "d3"
    losses = [json.loads(line) for line in (world / "run" / "log.jsonl").read_text().splitlines()]
    told = [row["reconstruction"] for row in losses if "reconstruction" in row]
    assert told[-1] < told[0]
