"""`diptych train` and `diptych train --list` with a toy recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import colour_plugin
from diptych import Collection
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.config import load_config
from diptych.errors import FingerprintMismatch
from diptych.runtime import interrupts
from toy_recipe import Toy, registry, spec

CONFIG = "store: edge:./qdrant\ncollection: toys\nslots:\n  dense: {adapter: fake-dense}\n"

SPECS = [
    spec(),
    spec("other", kind="sparse"),
    spec("reranking", kind="reranker", factory="toy_recipe:ToyReranker"),
    spec("student", factory="toy_recipe:ToyStudent"),
]
REGISTRY = registry(*SPECS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("recipe: toy\nmodel: a\noutput: run\n")
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), obj=Session(REGISTRY))


def test_training_says_what_was_measured_and_how_the_model_is_used(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--set", "model=b")
    assert answer.exit_code == 0, answer.output
    assert (folder / "run/model.txt").read_text() == "b"
    assert "nDCG@10" in answer.stdout
    assert "0.2500" in answer.stdout
    assert "model: {adapter: fake-dense, seed: 7}" in answer.stdout
    assert "small: {adapter: fake-dense, seed: 8}" in answer.stdout
    assert "it is a toy" in answer.stderr


def test_what_was_prepared_is_shown_by_a_recipe_that_can_and_only_when_nothing_is_trained(folder: Path) -> None:
    reranking = ["train", "recipe.yaml", "--set", "recipe=reranking"]
    assert "query q1: a toy" in run(*reranking, "--prepare").stderr
    assert "query q1: a toy" not in run(*reranking).stderr


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


def test_a_model_that_did_not_get_better_goes_into_the_config_with_a_warning(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml", "--set", "after=0.25", "--json")
    told = "do not say that it got better: nDCG@10 is 0.2500 after training and 0.2500 before training"
    assert told in answer.stderr
    assert json.loads(answer.stdout)["changed"] == "slots.dense"


def test_a_model_that_got_better_goes_into_the_config_without_a_warning(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml")
    assert "warning" not in answer.stderr
    assert "changed slots.dense of diptych.yaml" in answer.stdout
    assert "next: diptych plan --config diptych.yaml" in answer.stdout


@pytest.mark.parametrize("slot", ["look: {adapter: colours, of: image}", "words: {adapter: colours}"])
def test_a_model_of_pictures_goes_into_a_slot_of_pictures_which_is_said(slot: str, folder: Path) -> None:
    Path("diptych.yaml").write_text(f"store: edge:./qdrant\ncollection: toys\nslots:\n  {slot}\n")
    toys = Session(registry(spec(factory="toy_recipe:ToyPictures"), adapters=colour_plugin))
    command = ["train", "recipe.yaml", "--into", "diptych.yaml", "--slot", "look"]
    answer = CliRunner().invoke(app, command, obj=toys)
    assert answer.exit_code == 0, answer.output
    assert "model: {adapter: colours, grid: 3, of: image}" in answer.stdout
    slots = load_config("diptych.yaml").slots
    assert (slots["look"].of, slots["look"].options) == ("image", {"grid": 3})


def test_a_config_with_a_new_encoder_is_refused_until_it_is_applied_and_that_is_said(folder: Path) -> None:
    with Collection.open("diptych.yaml", registry=REGISTRY) as collection:
        collection.populate([{"id": "1", "text": "a toy"}])
    told = run("train", "recipe.yaml", "--into", "diptych.yaml").stdout
    assert "until diptych apply has made the vectors anew, whatever opens diptych.yaml to search is refused" in told
    with pytest.raises(FingerprintMismatch, match="made the vectors"):
        Collection.open("diptych.yaml", registry=REGISTRY)


def test_a_student_leaves_the_vectors_and_both_are_said(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml", "--set", "recipe=student")
    assert "changed slots.dense.query of diptych.yaml" in answer.stdout
    assert "next: diptych plan --config diptych.yaml" in answer.stdout
    assert "until diptych apply has admitted the student" in answer.stdout
    assert "is refused" not in answer.stdout


def test_a_reranker_is_compared_with_the_first_stage_and_it_is_said_who_uses_it(folder: Path) -> None:
    answer = run("train", "recipe.yaml", "--into", "diptych.yaml", "--set", "recipe=reranking")
    assert "nDCG@10 is 0.2157 after training and 1.0000 in the first stage's order" in answer.stderr
    told = "search.rerank[0]: programs that open diptych.yaml from now on rerank by it, all others after diptych apply"
    assert told in answer.stderr
    assert "changed search.rerank[0] of diptych.yaml" in answer.stdout
    assert "diptych plan" not in answer.stdout
    assert "until diptych apply" not in answer.stdout


def test_ctrl_c_says_that_the_same_command_continues(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Toy) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Toy, "train", interrupted)
    monkeypatch.setitem(interrupts._state, "said", False)
    answer = run("train", "recipe.yaml")
    assert answer.exit_code == 130
    assert "the same command, with the same --set, continues" in answer.stderr


def test_a_change_without_a_value_is_an_error(folder: Path) -> None:
    assert "where: --set\n  got: 'epochs'" in run("train", "recipe.yaml", "--set", "epochs").stderr


def test_recipes_are_listed_with_their_kind(folder: Path) -> None:
    lines = run("train", "--list").stdout.splitlines()
    kinds = [["student", "dense"], ["toy", "dense"], ["reranking", "reranker"], ["other", "sparse"]]
    assert [line.split()[:2] for line in lines[1:]] == kinds
    rows = json.loads(run("train", "--list", "--json").stdout)
    assert [[row["name"], row["kind"]] for row in rows] == kinds


def test_options_of_a_recipe_are_shown_with_their_dotted_names(folder: Path) -> None:
    lines = {line.split()[0]: line for line in run("train", "--options", "toy").stdout.splitlines()[1:]}
    assert "required" in lines["model"]
    assert "2.0" in lines["training.epochs"]
    assert "Passes." in lines["training.epochs"]
