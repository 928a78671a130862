"""MoCHi's queue where queries have several relevant documents: the relevance mask, with and without mixing; H-tag.

Batches of 128 at a rate of .01, as in `mask`, and a queue of 512, which holds nearly every tag. Without the mask the
queue's documents have ids, but nothing is judged. Each side has the best of three taus on seed 100 with 400 steps.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

from effects.mochi import TAUS, Setting, quality, run
from effects.running import FEW, ONE, Effect, best, each, effect, plateau

QUEUE, FIRST = 512, 400


def effects() -> list[Effect]:
    """The mask of the queue with and without mixing, and mixing with and without the mask."""
    own: dict[tuple[bool, bool], Setting] = {}
    for masked, mixed in product((False, True), repeat=2):
        settings = [Setting(tau, QUEUE, None, 16 if mixed else None, masked) for tau in TAUS]
        own[masked, mixed] = best(partial(quality, "H-tag", FIRST), settings, ONE)
    blind = own[False, False]
    steps, enough = plateau(lambda steps, seed: quality("H-tag", steps, blind, seed), FIRST, 12_800, ONE)
    found = {key: each(partial(run, "H-tag", steps, setting), FEW) for key, setting in own.items()}
    start, at = each(partial(run, "H-tag", 0, blind), FEW), ("H-tag", "nDCG@10")
    told: Any = {"page": "contrastive", "conditions": [enough], "untrained": start, "same_queries": True}
    mask, mixes = "mask of the queue beside none", "mixed negatives beside none"
    return [
        effect("MoCHi", f"{mask}, no mixes", *at, found[False, False], found[True, False], **told),
        effect("MoCHi", f"{mask}, mixed negatives", *at, found[False, True], found[True, True], **told),
        effect("MoCHi", f"{mixes}, queue masked", *at, found[True, False], found[True, True], **told),
        effect(
            "MoCHi", f"{mixes}, queue not masked", *at, found[False, False], found[False, True], better="lower", **told
        ),
    ]
