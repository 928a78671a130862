"""A training of any recipe that was stopped goes on and ends as one that was not; test_train_command.py kills one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from every_recipe import RECIPES, made, options_of, write_world
from tiny_training import Told

pytestmark = pytest.mark.slow
CHECKPOINTS = {"ar2": "round-1/round.json"}  # of the others the trainer's, whose last file this is:
WHOLE = "checkpoint-*/trainer_state.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


class Stopped(Told):
    """A watcher that stops a training at the second step after a checkpoint, which the pattern finds once whole."""

    def __init__(self, checkpoints: Path, pattern: str) -> None:
        super().__init__()
        self.checkpoints, self.pattern, self.since = checkpoints, pattern, 0

    def advance(self, stage: str, n: int) -> None:
        """A step."""
        self.since += n if list(self.checkpoints.glob(self.pattern)) else 0
        if self.since >= 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_stopped_training_ends_as_one_that_was_not(recipe: str, world: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    watcher = Stopped(again / "checkpoints", CHECKPOINTS.get(recipe, WHOLE))
    with pytest.raises(KeyboardInterrupt):
        made(options_of(recipe, world, again), watcher).train()
    assert not (again / "report.json").exists()
    whole = made(options_of(recipe, world, tmp_path / "whole"), Told()).train()
    report = made(options_of(recipe, world, again), Told()).train()
    assert 0 < report.resumed_at < report.steps == whole.steps
    assert str(world) not in (Path(whole.folder) / "README.md").read_text("utf-8")  # a card is shared
    ends = sorted(path.relative_to(whole.folder) for path in Path(whole.folder).rglob("*.safetensors"))
    assert ends
    for end in ends:
        one, other = load_file(Path(whole.folder) / end), load_file(again / end)
        assert one.keys() == other.keys()
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
    assert report.measured.keys() == whole.measured.keys()
    for when, values in whole.measured.items():
        assert report.measured[when] == pytest.approx(values, abs=1e-4)
