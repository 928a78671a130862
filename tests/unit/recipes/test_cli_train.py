"""`diptych train` and `diptych recipes` with a toy recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diptych.cli import app
from diptych.cli.session import Session
from toy_recipe import registry, spec

CONFIG = "store: edge:./qdrant\ncollection: toys\nslots:\n  dense: {adapter: fake-dense}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("recipe: toy\nmodel: a\noutput: run\n")
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), obj=Session(registry(spec(), spec("other", kind="sparse"))))


def test_training_says_what_was_measured_and_how_the_model_is_used(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--set", "model=b")
    assert answer.exit_code == 0, answer.output
    assert (folder / "run/model.txt").read_text() == "b"
    assert "nDCG@10" in answer.stdout
    assert "0.2500" in answer.stdout
    assert "model: {adapter: fake-dense, seed: 7}" in answer.stdout
    assert "small: {adapter: fake-dense, seed: 8}" in answer.stdout
    assert "it is a toy" in answer.stderr


def test_preparing_trains_nothing(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--prepare")
    assert answer.exit_code == 0
    assert "prepared nothing" in answer.stderr
    assert not (folder / "run").exists()


def test_a_trained_model_goes_into_a_config_and_one_of_several_by_its_name(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml", "--model", "small", "--json")
    assert json.loads(answer.stdout)["changed"] == "slots.dense"
    assert "seed: 8" in (folder / "diptych.yaml").read_text()


def test_a_model_that_was_not_made_is_an_error(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml", "--model", "large")
    assert answer.exit_code == 1
    assert "(the main one), small" in answer.stderr
    assert (folder / "diptych.yaml").read_text() == CONFIG


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        ("toy", ["--into", "nope.yaml"], "there is no config file"),
        ("toy", ["--into", "nope.yaml", "--model", "small"], "there is no config file"),
        ("other", ["--into", "diptych.yaml"], "which slot the trained sparse model is for"),
    ],
)
def test_a_config_that_the_model_cannot_go_into_is_refused_before_anything_is_trained(
    recipe: str, arguments: list[str], message: str, folder: Path
) -> None:
    answer = run("train", "recipe.yaml", "--set", f"recipe={recipe}", *arguments)
    assert answer.exit_code == 1
    assert message in answer.stderr
    assert "prepared" not in answer.stderr
    assert not (folder / "run").exists()


def test_a_change_without_a_value_is_an_error(folder: Path) -> None:
    assert "expected: OPTION=VALUE" in run("train", "recipe.yaml", "--set", "epochs").stderr


def test_recipes_are_listed_with_their_kind(folder: Path) -> None:
    lines = run("recipes").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["toy", "dense"], ["other", "sparse"]]
    assert [row["name"] for row in json.loads(run("recipes", "--json").stdout)] == ["toy", "other"]


def test_options_of_a_recipe_are_shown_with_their_dotted_names(folder: Path) -> None:
    lines = {line.split()[0]: line for line in run("recipes", "toy").stdout.splitlines()[1:]}
    assert "required" in lines["model"]
    assert "2.0" in lines["training.epochs"]
    assert "Passes." in lines["training.epochs"]
