"""What is not a finite number ends a training with an error; it is never logged as 0 or saved as a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diptych.errors import ConfigError
from every_recipe import made, options_of, write_world
from tiny_training import Told, lines


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.mark.parametrize(
    ("rate", "what"), [(1e30, "the loss is not a finite number"), (1e39, "weights are no finite numbers")]
)
def test_a_training_that_diverges_is_an_error_and_its_checkpoints_are_whole(
    rate: float, what: str, world: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given = options_of("contrastive", world, run, learning_rate=rate, warmup=0, evaluate_every=1)
    with pytest.raises(ConfigError, match=f"{what}(?s:.*)lower training.learning_rate"):
        made(given, Told()).train()
    assert not (run / "report.json").exists()
    for path in run.glob("checkpoints/*/training.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(path).values())


def test_a_loss_is_logged_as_it_is(world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    made(options_of("contrastive", world, run, epochs=1), Told()).train()
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(entry["loss"] > 0 for entry in logged if "loss" in entry)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "1.5", True, None])
def test_a_stored_score_that_is_no_number_is_named_with_its_line(score: Any, world: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    lines(path, [{"query": "q0", "scores": {"d0": 1.0}}, {"query": "q1", "scores": {"d0": 1, "d1": score}}])
    with pytest.raises(ConfigError, match=r"a score is not a finite number(?s:.*)scores.jsonl:2(?s:.*)of document d1"):
        prepared(world, tmp_path / "run", path)


def test_stored_scores_that_are_not_there_are_a_config_error(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the stored scores cannot be read(?s:.*)teacher.scores(?s:.*)none.jsonl"):
        prepared(world, tmp_path / "run", tmp_path / "none.jsonl")


def prepared(world: Path, run: Path, scores: Path) -> list[str]:
    given = {**options_of("cprd", world, run), "teacher": {"scores": str(scores)}}
    done: list[str] = made(given, Told()).prepare()
    return done
