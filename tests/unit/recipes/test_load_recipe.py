"""Recipe files are read and checked before anything is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diptych import Registry, hookimpl
from diptych.errors import (
    AdapterFactoryError,
    ConfigError,
    DuplicateAdapter,
    HookError,
    MissingExtra,
    RegistryError,
    UnknownAdapter,
)
from diptych.training import load_recipe
from tiny_training import Told
from toy_recipe import Options, registry, spec


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_file_names_recipe_and_options_and_its_paths_start_at_its_folder(tmp_path: Path) -> None:
    path = written(tmp_path, "recipe: toy\nmodel: ./old\noutput: runs/x\n")
    found = load_recipe(path, registry(spec()))
    assert isinstance(found.options, Options)
    assert found.options.output == (tmp_path / "runs/x").resolve()
    assert found.options.model == str((tmp_path / "old").resolve())


def test_changes_replace_options_of_the_file_by_dotted_name(tmp_path: Path) -> None:
    path = written(tmp_path, "recipe: toy\nmodel: a\noutput: x\ntraining: {epochs: 3}\n")
    found = load_recipe(path, registry(spec()), changes={"training.epochs": 1, "model": "b"})
    assert found.options.model_dump(include={"model", "training"}) == {
        "model": "b",
        "training": {"epochs": 1.0, "steps": None},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: a\n", "the file names no recipe(?s:.*)expected: a line such as recipe: contrastive"),
        (
            "recipe: toy\nmodel: a\noutput: x\ntraining: {epoch: 1}\n",
            r"unknown key 'epoch'(?s:.*)line 4, training.epoch",
        ),
        (
            "recipe: toy\nmodel: a\noutput: x\ntraining: {epochs: 0}\n",
            "unusable value(?s:.*)training.epochs(?s:.*)got: 0",
        ),
        ("recipe: toy\nmodle: a\noutput: x\n", "did you mean 'model'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(written(tmp_path, text), registry(spec()))


def test_a_recipe_file_that_is_missing_or_empty_is_called_one_and_shown_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"there is no recipe file(?s:.*)nope\.yaml(?s:.*)`recipe: NAME` and its options"
    ):
        load_recipe(tmp_path / "nope.yaml", registry(spec()))
    with pytest.raises(ConfigError, match=r"the recipe file is empty(?s:.*)`diptych train --list` lists names"):
        load_recipe(written(tmp_path, ""), registry(spec()))
    with pytest.raises(ConfigError, match="the recipe file is not YAML"):
        load_recipe(written(tmp_path, "recipe: [toy\n"), registry(spec()))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("traning.epochs", 1, r"unknown key 'traning'\n  where: --set traning\.epochs\n(?s:.*)did you mean 'training'"),
        ("training.epochs", 0, r"unusable value\n  where: --set training\.epochs\n"),
        ("training", {"epochs": 0}, r"unusable value\n  where: --set training\n"),
        ("model", "b", r"unknown key 'epoch'\n  where: \S+recipe\.yaml, line 4, training\.epoch\n"),
        ("training.epochs", 1, r"unknown key 'epoch'\n  where: \S+recipe\.yaml, line 4, training\.epoch\n"),
    ],
)
def test_a_change_that_cannot_be_used_is_named_as_one_and_what_stands_in_the_file_by_its_line(
    name: str, value: Any, message: str, tmp_path: Path
) -> None:
    ending = "training: {epoch: 1}\n" if "'epoch'" in message else "training: {epochs: 1}\n"
    path = written(tmp_path, f"recipe: toy\nmodel: a\noutput: x\n{ending}")
    with pytest.raises(ConfigError, match=message):
        load_recipe(path, registry(spec()), changes={name: value})


def test_an_unknown_recipe_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "recipe: toyy\nmodel: a\noutput: x\n")
    with pytest.raises(
        UnknownAdapter, match=r"no recipe is called 'toyy'(?s:.*)did you mean 'toy'(?s:.*)diptych train --list"
    ):
        load_recipe(path, registry(spec()))


def test_a_recipe_that_was_removed_says_where_it_went_unless_a_plugin_brings_its_name() -> None:
    with pytest.raises(UnknownAdapter, match=r"'mw' was removed(?s:.*)methods/mw\.md(?s:.*)97ce00b1"):
        load_recipe({"recipe": "mw", "model": "a", "output": "x"}, registry(spec()))
    assert load_recipe({"recipe": "mw", "model": "a", "output": "x"}, registry(spec(name="mw"))).spec.name == "mw"


def test_a_missing_package_is_named_with_what_to_install() -> None:
    lacking = spec(requires=("no_such_module",), extra="diptych[train]")
    with pytest.raises(MissingExtra, match=r"'toy' needs no_such_module(?s:.*)pip install 'diptych\[train\]'"):
        load_recipe({"recipe": "toy", "model": "a", "output": "x"}, registry(lacking))


def test_a_secret_comes_from_the_environment_and_stands_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_TEST_EPOCHS", "-5.25")
    raw = {"recipe": "toy", "model": "a", "output": "x", "training": {"epochs": "${DIPTYCH_TEST_EPOCHS}"}}
    with pytest.raises(ConfigError) as caught:
        load_recipe(raw, registry(spec()))
    assert "5.25" not in str(caught.value)


def test_a_factory_that_fails_is_named() -> None:
    found = load_recipe({"recipe": "toy", "model": "a", "output": "x"}, registry(spec(factory="toy_recipe:broken")))
    with pytest.raises(AdapterFactoryError, match=r"recipe 'toy' failed(?s:.*)RuntimeError: out of toys"):
        found.make(Told())


def test_two_plugins_with_one_recipe_are_an_error() -> None:
    plugins = [SimpleNamespace(diptych_register_recipes=hookimpl(lambda: [spec()]), __name__=name) for name in "ab"]
    with pytest.raises(DuplicateAdapter, match="two plugins register a recipe called 'toy'"):
        Registry(*plugins, installed=False)


def test_a_hook_that_returns_something_else_is_an_error() -> None:
    with pytest.raises(HookError, match=r"diptych_register_recipes returned an unexpected (?s:.*)diptych.RecipeSpec"):
        registry("toy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kind": "dence"}, "recipe 'toy' has an unknown kind"), ({"factory": "toy"}, "names no factory")],
)
def test_a_spec_that_says_nonsense_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        spec(**changes)
