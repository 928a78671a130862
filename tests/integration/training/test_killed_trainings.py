"""A training of any recipe that was killed goes on and ends as one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from every_recipe import RECIPES, made, options_of, write_world
from tiny_training import Told

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def killed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of all recipes, each killed by SIGKILL some steps after a checkpoint."""
    runs = tmp_path_factory.mktemp("killed")
    script = Path(__file__).with_name("kill_trainings.py")
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), str(world), str(runs), *RECIPES]
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return runs


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_killed_training_ends_as_one_that_was_not(recipe: str, world: Path, killed: Path, tmp_path: Path) -> None:
    assert not (killed / recipe / "report.json").exists()
    whole = made(options_of(recipe, world, tmp_path / "whole"), Told()).train()
    report = made(options_of(recipe, world, killed / recipe), Told()).train()
    assert 0 < report.resumed_at < report.steps == whole.steps
    assert str(world) not in (Path(whole.folder) / "README.md").read_text("utf-8")  # a card is shared
    ends = sorted(path.relative_to(whole.folder) for path in Path(whole.folder).rglob("*.safetensors"))
    assert ends
    for end in ends:
        one, other = load_file(Path(whole.folder) / end), load_file(killed / recipe / end)
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    assert report.measured.keys() == whole.measured.keys()
    for when, values in whole.measured.items():
        assert report.measured[when] == pytest.approx(values, abs=1e-4)
