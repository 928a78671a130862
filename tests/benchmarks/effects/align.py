"""ALIGN's switches beside plain InfoNCE, and noisy pairs beside fewer clean ones; H-vec.

A fifth of the pairs are wrong where not said otherwise. tau is 0.3 where nothing else is said. What is claimed of a
learned one is that its start hardly matters: it is learned from 0.07 and from 1.0, and stands beside the best of
`TAUS`, chosen on the tuning seeds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.running import Effect, best, each, effect, plateau
from effects.scoring import Doubles, recall
from effects.vec import fitted, noisy, planted

SWITCHES: dict[str, dict[str, Any]] = {
    "symmetric": {"symmetric": True},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "symmetric and smoothed": {"symmetric": True, "label_smoothing": 0.1},
}
TAUS = (0.05, 0.1, 0.3, 1.0)
LOW, HIGH, SAME = 0.07, 1.0, 0.02  # starts of tau, and the recall by which they may differ
CLEAN = 3  # pairs a query of the training without noise
NOISE = 0.4
TOLD = ("H-vec", "recall@20")


def effects() -> list[Effect]:
    """A switch at a time, then size against noise."""
    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps=steps).mean()), start=1600, limit=12800)
    told: Any = {"page": "contrastive", "conditions": [long_enough]}
    at = partial(run, steps=steps)
    plain = each(at)
    found = [
        effect(f"ALIGN: {name}", "beside InfoNCE, 20 % wrong pairs", *TOLD, plain, each(partial(at, **own)), **told)
        for name, own in SWITCHES.items()
    ]
    tau = best(lambda tau, seed: float(at(seed, tau=tau).mean()), TAUS)
    low, high = (each(partial(at, tau=start, learn_tau=True)) for start in (LOW, HIGH))
    learned = "ALIGN: learned temperature"
    same: Any = {**told, "better": "equal", "tolerance": SAME}
    fixed_low, fixed_high, fixed = (each(partial(at, tau=own)) for own in (LOW, HIGH, tau))
    found += [
        effect(learned, f"from {LOW} beside from {HIGH}", *TOLD, high, low, **same),
        effect("ALIGN: fixed temperature", f"{LOW} beside {HIGH}", *TOLD, fixed_high, fixed_low, **same),
        effect(learned, f"from {LOW} beside the best fixed one, {tau}", *TOLD, fixed, low, **same),
    ]
    clean = each(partial(at, per_query=CLEAN, noise=0.0))
    for times in (2, 4):
        many = each(partial(at, per_query=CLEAN * times, noise=NOISE))
        what = f"{times} x the pairs with 40 % wrong beside all right"
        found.append(effect("ALIGN: size for noise", what, *TOLD, clean, many, **told))
    return found


def run(seed: int, *, steps: int, per_query: int = 6, noise: float = 0.2, tau: float = 0.3, **switches: Any) -> Doubles:
    """Recall of what is truly relevant, by query."""
    relevant = planted(seed)
    pairs = noisy(relevant, seed, per_query=per_query, noise=noise)
    scores = fitted(pairs, relevant.shape, ContrastiveLoss(None, tau=tau, **switches), seed=seed, steps=steps)
    return recall(scores, relevant, 20)
