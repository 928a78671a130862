"""Modules that train within a model are kept and read as safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych_experimental.cmim import Decoder
from diptych_experimental.dual_head_models import DualHead
from diptych_training.models.multi_exit import Exits
from diptych_training.recipes.prototype_tuning import Prototypes

MADE: dict[str, Callable[[], Any]] = {
    "exits": lambda: Exits([1, 2], 8, norm_eps=1e-5, norm_bias=False, pooling="cls"),
    "shared": lambda: Exits([1, 2], 8, heads="shared", dimension=4),
    "heads": lambda: DualHead(8, dimension=4, mix=0.3),
    "prototypes": lambda: Prototypes(["one", "two"], 8, tokens=3, token_width=6, first_id=50),
    "decoder": lambda: Decoder(8, layers=2, heads=2, max_length=16),
}


@pytest.mark.parametrize("name", MADE)
def test_a_module_is_read_as_it_was_kept(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: Any = MADE[name]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    made.save(str(tmp_path))
    found = type(made).load(str(tmp_path))
    assert found.get_config_dict() == made.get_config_dict()
    states = made.state_dict(), found.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["config.json", "model.safetensors"]
