"""InfoNCE and Mann-Whitney on real text beside the untrained model and beside each other; H-cran.

Half of the queries train, the others test; for the tuning seed the halves are exchanged, and there the rate was chosen.
Tau is 0.05 for both. The seed draws the batches; queries and first weights are the same for all seeds. Takes some
minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, MannWhitneyLoss
from effects.cran import cran, pretrained
from effects.mw import METRICS, Found, measured, parts
from effects.running import FEW, ONE, TUNING, Effect, each, effect, plateau
from effects.tiny import scores, trained

RATE = 5e-4


def effects() -> list[Effect]:
    """Each of the three measures."""
    steps, long_enough = plateau(
        lambda steps, seed: float(run(ContrastiveLoss, seed, steps)[2].mean()), 30, 480, seeds=ONE
    )
    plain, whole = (each(partial(run, make, steps=steps), FEW) for make in (ContrastiveLoss, MannWhitneyLoss))
    untrained, rows = each(partial(run, ContrastiveLoss, steps=0), FEW), list[Effect]()
    told: dict[str, Any] = {"same_queries": True, "conditions": [long_enough]}
    for place, metric in enumerate(METRICS):
        sides = parts(untrained, plain, place)
        rows.append(
            effect("InfoNCE", "beside the untrained model", "H-cran", metric, *sides, page="contrastive", **told)
        )
    for place, metric in enumerate(METRICS):
        told["untrained"], sides = [one[place] for one in untrained], parts(plain, whole, place)
        rows.append(effect("Mann-Whitney", "beside InfoNCE", "H-cran", metric, *sides, page="mw", **told))
    return rows


def run(make: Callable[..., Any], seed: int, steps: int) -> Found:
    """The three measures after a training."""
    world = cran()
    if seed in TUNING:
        world = replace(world, train=world.test, test=world.train)
    loss = make(None, tau=0.05, relevance=world.relevance())
    model = trained(world, world.rows(), loss, seed=seed, model=pretrained(), steps=steps, rate=RATE)
    return measured(scores(model, world), world.relevant[world.test])
