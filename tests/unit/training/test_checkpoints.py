"""What a checkpoint has, and what is read of one that has more or less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.errors import ConfigError
from diptych_training.recipes.base import Training
from diptych_training.running import Fitted
from diptych_training.running.families import WEIGHTS, with_own_checkpoints
from given_embeddings import Scaled, columns, drawn


class Following(torch.nn.Module):
    """A loss that keeps something aside: a slow copy of its model's factor."""

    def __init__(self, model: Scaled) -> None:
        super().__init__()
        self.model, self.slow = model, model.factor.detach().clone()

    def forward(self, batch: Any) -> torch.Tensor:
        self.slow = (self.slow + self.model.factor.detach()) / 2
        found: torch.Tensor = ((batch[0]["given"] * self.slow) @ batch[1]["given"].T).mean()
        return found

    def state_aside(self) -> dict[str, torch.Tensor]:
        return {"slow": self.slow}

    def load_aside(self, state: dict[str, torch.Tensor]) -> None:
        self.slow = state.get("slow", self.model.factor.detach().clone())


class Bare:
    """As much of a trainer as checkpoints ask for."""

    def __init__(self) -> None:
        self.model = Scaled()
        self.loss = Following(self.model)
        self.state = SimpleNamespace(global_step=1)

    def step(self, seed: int) -> float:
        found: torch.Tensor = self.loss(columns(*(drawn(seed + column, 4, 6) for column in range(2))))
        with torch.no_grad():
            self.model.factor.add_(0.5)
        return found.item()


Trainer = with_own_checkpoints(Bare)


def test_a_training_goes_on_with_what_its_loss_keeps_aside(tmp_path: Path) -> None:
    first = Trainer()
    for seed in (0, 10):
        first.step(seed)
    first._save(str(tmp_path))
    later = Trainer()
    later._load_from_checkpoint(str(tmp_path))
    assert later.step(20) == pytest.approx(first.step(20))


def test_a_checkpoint_of_an_earlier_version_is_read_and_begins_anew_what_it_lacks(tmp_path: Path) -> None:
    first = Trainer()
    first.step(0)
    first._save(str(tmp_path))
    kept = {name: value for name, value in load_file(tmp_path / WEIGHTS).items() if not name.startswith("aside.")}
    save_file(kept, tmp_path / WEIGHTS)
    later = Trainer()
    later._load_from_checkpoint(str(tmp_path))
    assert torch.equal(later.loss.slow, first.model.factor)


def test_a_checkpoint_of_another_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = Trainer()
    first._save(str(tmp_path))
    save_file({**load_file(tmp_path / WEIGHTS), "model.other": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(ConfigError, match=r"other weights.*\n  where: .*\n  got: model.other\n  do: delete the folder"):
        Trainer()._load_from_checkpoint(str(tmp_path))


def test_a_model_that_is_worse_than_the_untrained_one_is_remarked_on() -> None:
    kept = ("Kept are the weights of step 6 of 28, by nDCG@10.",)
    worse = Fitted(28, 0, {"nDCG@10": 0.4024}, {"nDCG@10": 0.3930}, kept)
    assert worse.remarks[0] == kept[0]
    assert worse.remarks[1].startswith(
        "Not better than the untrained model: nDCG@10 is 0.3930 after training and 0.4024 before."
    )
    assert replace(worse, after={"nDCG@10": 0.5}).remarks == kept
    assert replace(worse, before={}, after={}).remarks == kept
    assert replace(worse, chosen_by="pooled AUC").remarks == kept
    recipe: Any = SimpleNamespace(name="toy", kind="dense", folder=SimpleNamespace(path="run"), remarks=["one"])
    recipe.measured_parts, recipe.left_out = {}, list
    assert Training._report(recipe, worse, []).remarks == ("one", *worse.remarks)
