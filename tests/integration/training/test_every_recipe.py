"""What every recipe does alike, asked of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diptych.errors import ConfigError
from every_recipe import MASKED, RECIPES, made, options_of, write_world
from tiny_training import Told

LORA = {"rank": 2, "modules": ["query", "value"]}
NO_ADAPTERS = {
    "ar2": "training.lora is not for ar2",
    "prototype_tuning": "the encoder is frozen: training.lora",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {*NO_ADAPTERS}))
def test_adapters_change_the_layers_that_they_are_for_and_what_is_new(recipe: str, world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = made(options_of(recipe, world, run, lora=LORA, epochs=1), Told()).train()
    assert report.steps > 0
    start = run / "bottleneck" if recipe == "lexlip_text" else world / ("masked" if recipe in MASKED else "dense")
    before, after = load_file(start / "model.safetensors"), load_file(run / "model.safetensors")
    assert after.keys() - before.keys() == NEW.get(recipe, set())
    changed = {name for name in after.keys() & before.keys() if not torch.allclose(after[name], before[name])}
    assert {name.split(".")[-2] for name in changed} == {"query", "value"}


NEW = {
    "cross_encoder": {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
}


@pytest.mark.parametrize("recipe", sorted(NO_ADAPTERS))
def test_a_recipe_without_adapters_says_so(recipe: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=NO_ADAPTERS[recipe]):
        made(options_of(recipe, world, tmp_path / "run", lora=LORA), Told())
