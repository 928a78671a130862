"""A folder belongs to one training, whichever version began it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import ConfigError
from diptych.training import load_recipe
from diptych_training.running.folder import RunFolder
from every_recipe import REGISTRY

DATA = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.tsv"}
NEW = ("queue", "mixing", "prompts", "loss.blocks", "training.lora", "training.keep", "data.dev.documents", "loss")


def options_of(folder: Path, recipe: str = "contrastive", **more: Any) -> Any:
    given = {"recipe": recipe, "model": "a-model", "output": str(folder), "data": DATA}
    return load_recipe({**given, **more}, REGISTRY).options


def begun_without(name: str, folder: Path, recipe: str = "contrastive") -> None:
    """A folder as a version began it that had no such option."""
    RunFolder(recipe, options_of(folder, recipe))
    asked = json.loads((folder / "recipe.json").read_text())
    *above, last = name.split(".")
    section = asked
    for key in above:
        section = section[key]
    del section[last]
    (folder / "recipe.json").write_text(json.dumps(asked))


@pytest.mark.parametrize("name", NEW)
def test_an_option_that_came_later_is_at_its_default(name: str, tmp_path: Path) -> None:
    begun_without(name, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "recipe.json").read_text())
    RunFolder("contrastive", options_of(tmp_path / "run"))
    after = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert after != before
    RunFolder("contrastive", options_of(tmp_path / "run"))


def test_recipes_that_refuse_sections_which_are_given_go_on_too(tmp_path: Path) -> None:
    begun_without("pool.depth", tmp_path / "run", "dexml")
    RunFolder("dexml", options_of(tmp_path / "run", "dexml"))


def test_an_option_that_came_later_and_is_used_is_another_training(tmp_path: Path) -> None:
    begun_without("queue", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds another training(?s:.*)queue: 0 there, 5 asked"):
        RunFolder("contrastive", options_of(tmp_path / "run", queue=5))


def test_an_option_that_is_gone_is_another_training(tmp_path: Path) -> None:
    begun_without("queue", tmp_path / "run")
    path = tmp_path / "run" / "recipe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "old": 3}))
    with pytest.raises(ConfigError, match=r"holds another training(?s:.*)old: 3 there, None asked"):
        RunFolder("contrastive", options_of(tmp_path / "run"))
