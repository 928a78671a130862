"""ALIGN's switches beside plain InfoNCE, and noisy pairs beside fewer clean ones; H-vec.

A fifth of the pairs are wrong where not said otherwise. Nothing is tuned: tau is 0.3, and 1.0 at first where it is
learned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from diptych_training.losses import ContrastiveLoss
from effects.running import Effect, each, effect
from effects.scoring import Doubles, recall
from effects.vec import fitted, noisy, planted

SWITCHES: dict[str, dict[str, Any]] = {
    "symmetric": {"symmetric": True},
    "learned temperature": {"learn_tau": True, "tau": 1.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "all three": {"symmetric": True, "learn_tau": True, "tau": 1.0, "label_smoothing": 0.1},
}
CLEAN = 3  # pairs a query of the training without noise
NOISE = 0.4


def effects() -> list[Effect]:
    """A switch at a time, then size against noise."""
    plain = each(run)
    found = [
        effect(
            f"ALIGN: {name}",
            "beside InfoNCE, 20 % wrong pairs",
            "H-vec",
            "recall@20",
            plain,
            each(partial(run, **own)),
            page="contrastive",
        )
        for name, own in SWITCHES.items()
    ]
    clean = each(partial(run, per_query=CLEAN, noise=0.0))
    for times in (2, 4):
        many = each(partial(run, per_query=CLEAN * times, noise=NOISE))
        what = f"{times} x the pairs with 40 % wrong beside all right"
        found.append(effect("ALIGN: size for noise", what, "H-vec", "recall@20", clean, many, page="contrastive"))
    return found


def run(seed: int, *, per_query: int = 6, noise: float = 0.2, tau: float = 0.3, **switches: Any) -> Doubles:
    """Recall of what is truly relevant, by query."""
    relevant = planted(seed)
    pairs = noisy(relevant, seed, per_query=per_query, noise=noise)
    scores = fitted(pairs, relevant.shape, ContrastiveLoss(None, tau=tau, **switches), seed=seed)
    return recall(scores, relevant, 20)
