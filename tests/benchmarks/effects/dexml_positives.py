"""Decoupled beside summed softmax with ever more relevant documents a query; H-lex.

The worlds are alike but for their queries: 1 to 2, 3 to 5, or 5 to 12 relevant documents, the last as in `dexml`. All
training queries of a batch are compared with all 1,000 documents, tau .05; nothing is tuned. With one relevant document
both losses are the same, so that a gain has to grow with the number.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from effects.dexml import LOSSES, recall_by, run
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles

NUMBERS = ((1, 2), (3, 5), (5, 12))
METRIC = "recall@n"


def effects() -> list[Effect]:
    """Decoupled beside summed with each number, and the gain with many beside that with few."""
    steps, long_enough = plateau(partial(recall_by, LOSSES["summed"], positives=NUMBERS[-1]), limit=1600)
    told: Any = {"page": "dexml", "conditions": [long_enough]}
    found = {how: {name: _found(name, how, steps) for name in ("summed", "decoupled")} for how in NUMBERS}
    rows, name = [], "DEXML: decoupled softmax"
    for how, sides in found.items():
        what = f"decoupled beside summed, {how[0]} to {how[1]} relevant"
        rows.append(effect(name, what, "H-lex", METRIC, sides["summed"], sides["decoupled"], **told))
    gains = {how: _gains(sides["summed"], sides["decoupled"]) for how, sides in found.items()}
    for few, many in ((NUMBERS[0], NUMBERS[1]), (NUMBERS[1], NUMBERS[2])):
        what = f"gain with {many[0]} to {many[1]} relevant beside that with {few[0]} to {few[1]}"
        rows.append(effect(name, what, "H-lex", f"gain in {METRIC}", gains[few], gains[many], **told))
    return rows


def _found(name: str, how: tuple[int, int], steps: int) -> list[Doubles]:
    return each(lambda seed: run(LOSSES[name], seed, positives=how, steps=steps)[METRIC])


def _gains(baseline: list[Doubles], found: list[Doubles]) -> list[float]:
    return [float(np.mean(b - a)) for a, b in zip(baseline, found, strict=True)]
