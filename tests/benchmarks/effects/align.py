"""ALIGN's switches beside plain InfoNCE, and noisy pairs beside fewer clean ones; H-deb.

A fifth of the pairs are wrong where not said otherwise: the synopsis has another package's description. No judgement is
known. tau is the best fixed one of `TAUS` on a tuning seed where nothing else is said.

What is claimed of temperatures: a fixed one matters, which ALIGN calls crucial for vectors of unit length: 1.0 hardly
tells cosines apart, so 0.07 ranks better. (This claim was written down after the row had been measured.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from diptych_training.losses import ContrastiveLoss
from effects.deb import deb, train
from effects.running import FEW, ONE, Effect, best, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import scores

SWITCHES: dict[str, dict[str, Any]] = {
    "symmetric": {"symmetric": True},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "symmetric and smoothed": {"symmetric": True, "label_smoothing": 0.1},
}
TAUS = (0.02, 0.05, 0.1, 0.3)
LOW, HIGH = 0.07, 1.0
CLEAN, NOISE = 750, 0.4  # pairs of the training without noise; noise of the larger ones
TOLD = ("H-deb", "nDCG@10")


def effects() -> list[Effect]:
    """A switch at a time, then size against noise."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps=steps, tau=0.05).mean()), seeds=ONE)
    tau = best(lambda tau, seed: float(run(seed, steps=steps, tau=tau).mean()), TAUS, ONE)
    untrained = each(partial(run, steps=0, tau=tau), FEW)
    told: Any = {"page": "contrastive", "conditions": [long_enough], "untrained": untrained, "same_queries": True}
    at = partial(run, steps=steps)
    plain, wrong = each(partial(at, tau=tau), FEW), "beside InfoNCE, 20 % wrong pairs"
    found = [
        effect(f"ALIGN: {name}", wrong, *TOLD, plain, each(partial(at, tau=tau, **own), FEW), **told)
        for name, own in SWITCHES.items()
    ]
    fixed_low, fixed_high = (each(partial(at, tau=own), FEW) for own in (LOW, HIGH))
    found.append(effect("ALIGN: fixed temperature", f"{LOW} beside {HIGH}", *TOLD, fixed_high, fixed_low, **told))
    clean = each(partial(at, tau=tau, pairs=CLEAN, noise=0.0), FEW)
    for times in (2, 4):
        many = each(partial(at, tau=tau, pairs=CLEAN * times, noise=NOISE), FEW)
        what = f"{times} x the pairs with 40 % wrong beside all right"
        found.append(effect("ALIGN: size for noise", what, *TOLD, clean, many, **told))
    return found


def run(seed: int, *, steps: int, tau: float, pairs: int = 3000, noise: float = 0.2, **switches: Any) -> Doubles:
    """nDCG@10 by test query."""
    world, random = deb(seed), np.random.default_rng((seed, 84))
    rows = world.rows()[torch.from_numpy(random.permutation(len(world.train))[:pairs])]
    wrong = torch.from_numpy(random.random(len(rows)) < noise)
    rows[wrong, 1] = torch.from_numpy(random.integers(len(world.documents), size=int(wrong.sum())))
    model = train(world, rows, ContrastiveLoss(None, tau=tau, **switches), seed=seed, steps=steps)
    return ndcg(scores(model, world), world.relevant[world.test])
