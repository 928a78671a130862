"""InfoNCE and Mann-Whitney on real text beside the untrained model and beside each other; H-cran.

Half of the queries train for 60 steps of 32 pairs at a rate of 1e-4; tau is 0.05 for both. The seed draws the
batches; queries and first weights are the same for all seeds. Nothing is tuned. Takes some minutes of one core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss, MannWhitneyLoss
from effects.cran import cran, pretrained
from effects.mw import METRICS, Found, measured, parts
from effects.running import Effect, each, effect
from effects.tiny import scores, trained

STEPS, RATE = 60, 1e-4


def effects() -> list[Effect]:
    """Each of the three measures."""
    world = cran()
    before = measured(scores(pretrained(), world), world.relevant[world.test])
    plain, whole = each(partial(run, ContrastiveLoss)), each(partial(run, MannWhitneyLoss))
    untrained, told = [before] * len(plain), dict[str, Any](same_queries=True, fixed_steps=True)
    name, rows = "beside the untrained model", list[Effect]()
    for place, metric in enumerate(METRICS):
        sides = parts(untrained, plain, place)
        rows.append(effect("InfoNCE", name, "H-cran", metric, *sides, page="contrastive", **told))
    for place, metric in enumerate(METRICS):
        told["untrained"], sides = [one[place] for one in untrained], parts(plain, whole, place)
        rows.append(effect("Mann-Whitney", "beside InfoNCE", "H-cran", metric, *sides, page="mw", **told))
    return rows


def run(make: Callable[..., Any], seed: int) -> Found:
    """The three measures after a training."""
    world = cran()
    loss = make(None, tau=0.05, relevance=world.relevance())
    model = trained(world, world.rows(), loss, seed=seed, model=pretrained(), steps=STEPS, rate=RATE)
    return measured(scores(model, world), world.relevant[world.test])
