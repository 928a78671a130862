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
from given_embeddings import Scaled


class Bare:
    """As much of a trainer as checkpoints ask for."""

    def __init__(self) -> None:
        self.model = Scaled()
        self.loss = torch.nn.Identity()
        self.state = SimpleNamespace(global_step=1)


Trainer = with_own_checkpoints(Bare)


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
