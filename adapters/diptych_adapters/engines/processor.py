"""What this processor computes fast: bfloat16 takes a third of the time of float32 on some, twice it on others."""

from __future__ import annotations

import time
import warnings
from functools import cache

import torch

SHAPE = (512, 1536, 384)  # rows, inputs and outputs of the product that is timed: 20 ms of one core at most
TIMES = 5
SLOWER = 0.9  # of float32's speed; what is measured beside other programs varies
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@cache
def speed(precision: str) -> float:
    """How many times as fast as in float32 a product of matrices is; measured once in a process."""
    rows, inputs, outputs = SHAPE
    left, right = torch.randn(rows, inputs), torch.randn(inputs, outputs)
    low, high = (left.to(DTYPES[precision]), right.to(DTYPES[precision])), (left, right)
    return _seconds(*high) / _seconds(*low)


def beside_int8() -> str:
    """The precision of what a model in int8 does not compute in int8."""
    return "bfloat16" if speed("bfloat16") > 1 else "float32"


def warn_if_slower(precision: str) -> None:
    """A warning where an inexact precision only costs time."""
    if precision in DTYPES and (found := speed(precision)) < SLOWER:
        warnings.warn(
            f"precision {precision} is slower than float32 on this processor: {found:.1f} times its speed; "
            "leave `precision` out, or use int8",
            stacklevel=2,
        )


@torch.inference_mode()
def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    """The shortest of some products, after one that does not count."""
    taken = []
    for _ in range(TIMES + 1):
        begin = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])
