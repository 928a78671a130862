from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych_training.data.mining import ModelSource
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


def test_a_forward_that_someone_else_has_wrapped_stays_wrapped(tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path)
    plain, calls = model.forward, []

    def wrapped(*given: Any, **named: Any) -> Any:
        calls.append(1)
        return plain(*given, **named)

    model.forward = wrapped  # as accelerate does while it trains in bfloat16
    with computed_in(model, "bfloat16"):
        model.encode(TEXTS)
    assert model.forward is wrapped
    model.encode(TEXTS)
    assert len(calls) == 2


def test_candidates_are_ranked_by_scores_in_float32(tmp_path: Path) -> None:
    documents = {str(n): text for n, text in enumerate(TEXTS)}
    model = tiny_encoder(tmp_path)
    types = seen_by(model, first_linear(model))
    found = ModelSource(model, documents, precision="bfloat16").find(["drag"], [["0"]], 3)[0]
    assert set(types) == {torch.bfloat16}
    assert found.named["0"] == pytest.approx(dict(found.ranking)["0"])
    scores = torch.tensor([score for _, score in found.ranking])
    assert not torch.equal(scores, scores.bfloat16().float())
