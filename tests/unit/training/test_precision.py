from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych_training.running.families import computed_in
from tiny_encoders import tiny_encoder

TEXTS = ["a heart valve", "the wing of an aircraft", "lift and drag"]


def seen_by(model: Any, module: Any) -> list[torch.dtype]:
    """Where the types of what `module` returns are put."""
    types: list[torch.dtype] = []
    module.register_forward_hook(lambda *told: types.append(told[2].dtype))
    return types


def first_linear(model: Any) -> Any:
    return next(module for module in model.modules() if isinstance(module, torch.nn.Linear))


def test_an_encoder_computes_in_bfloat16_and_returns_float32(tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path)
    exact, types = model.encode(TEXTS), seen_by(model, first_linear(model))
    with computed_in(model, "bfloat16"):
        found = model.encode(TEXTS)
    assert found.dtype == np.float32
    assert set(types) == {torch.bfloat16}
    assert not np.array_equal(found, exact)
    assert np.sum(found * exact, axis=1) == pytest.approx(1, abs=0.01)
    assert np.array_equal(model.encode(TEXTS), exact)
