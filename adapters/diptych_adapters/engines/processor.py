"""What this processor computes fast: bfloat16 takes a third of the time of float32 on some, twice it on others."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

SHAPE = (128, 384, 384)  # rows, inputs and outputs of the product that is timed: .3 ms of one core
TIMES = 60  # of which the shortest counts, that nothing else disturbed
SLOWER = 0.9  # of float32's speed
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@cache
def speed(precision: str) -> float:
    """How many times as fast as in float32 a product of matrices is; measured once in a process, in 50 ms."""
    return measured(torch.float32, DTYPES[precision])


def measured(one: torch.dtype, other: torch.dtype) -> float:
    """How many times as fast as in `one` a product is in `other`, on one core: several would wait for each other."""
    with ThreadPoolExecutor(1) as pool:  # how many threads torch uses is each thread's own
        return pool.submit(_on_one_core, one, other).result()


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
def _on_one_core(one: torch.dtype, other: torch.dtype) -> float:
    rows, inputs, outputs = SHAPE
    left, right = torch.randn(rows, inputs), torch.randn(inputs, outputs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        before, after = (_shortest(left.to(dtype), right.to(dtype)) for dtype in (one, other))
    finally:
        torch.set_num_threads(threads)
    return before / after


def _shortest(left: torch.Tensor, right: torch.Tensor) -> float:
    taken = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - begin)
    return min(taken)
