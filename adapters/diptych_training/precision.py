"""Encodes in the precision of the training: half the time on a CPU with AMX, and consistent with training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "bfloat16"]


@contextmanager
def computed_in(model: Any, precision: Precision) -> Iterator[None]:
    """Within the block, `model.forward` computes in `precision`; its weights and results stay float32.

    This applies to the forward pass alone: scores computed from the vectors afterwards keep their ranks.

    Args:
        model: a module; float32 leaves it alone.
        precision: of its arithmetic.
    """
    if precision == "float32":
        yield
        return
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(model.device.type, torch.bfloat16):
            outputs = original(*args, **kwargs)
        return _widened(outputs)

    with forward_kept(model):
        model.forward = forward
        yield


@contextmanager
def forward_kept(model: Any) -> Iterator[None]:
    """Within the block, `model.forward` may be wrapped; afterwards the original is restored.

    Trainers wrap it to compute in bfloat16, and leave it so.
    """
    original = vars(model).get("forward")
    try:
        yield
    finally:
        vars(model).pop("forward", None)
        if original is not None:
            model.forward = original


def _widened(outputs: Any) -> Any:
    """The tensors of an output, or of a mapping, in float32."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    if isinstance(outputs, Mapping):
        for name in list(outputs):
            outputs[name] = _widened(outputs[name])  # type: ignore[index]  # the library's own outputs, which it changes too
    return outputs
