"""cMIM on documents alone beside no training, beside A-MIM and beside SimCSE; H-lex.

The encoder is a tiny BERT of random weights, which sees 2,000 documents in batches of 32 and then answers the test
queries; no query and no judgement is trained on. Steps are those after which A-MIM gains no more. A-MIM is the same
loss without the contrastive factor, SimCSE is InfoNCE of two passes of the encoder with dropout 0.1. tau is each loss's
default; nothing is tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.mutual_information import CMIMLoss
from diptych_training.models.information import encoder_of, with_decoder
from effects.lex import lex
from effects.running import Effect, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import Batch, cosines, embedded, fitted, model_of

BATCH, RATE = 32, 1e-3


def effects() -> list[Effect]:
    """Beside each of the others."""
    alone: Any = {"contrastive_weight": 0.0}
    steps, long_enough = plateau(lambda steps, seed: float(run("cmim", seed, steps, **alone).mean()), start=600)
    cmim = each(partial(run, "cmim", steps=steps))
    baselines = {
        name: each(partial(run, way, steps=steps)) for name, way in (("no training", "none"), ("SimCSE", "simcse"))
    }
    baselines["A-MIM"] = each(partial(run, "cmim", steps=steps, **alone))
    told: Any = {"page": "cmim", "conditions": [long_enough]}
    return [
        effect("cMIM", f"beside {name}", "H-lex", "nDCG@10", found, cmim, **told) for name, found in baselines.items()
    ]


def run(way: str, seed: int, steps: int, **options: Any) -> Doubles:
    """nDCG@10 by test query."""
    world = lex(seed)
    model: Any = model_of(world, seed=seed)
    torch.manual_seed(seed)
    texts = [world.document_tokens[own] for own in shuffled(len(world.documents), BATCH, steps, seed)]
    if way == "cmim":
        model = with_decoder(model)
        fitted(CMIMLoss(model, **options), [([own], None) for own in texts], rate=RATE)
        model = encoder_of(model)
    elif way == "simcse":
        _dropping(model, 0.1)
        twice: list[Batch] = [([own, own], None) for own in texts]
        fitted(ContrastiveLoss(model), twice, rate=RATE)
    queries, documents = (embedded(model, own) for own in (world.query_tokens[world.test], world.document_tokens))
    return np.asarray(ndcg(cosines(queries, documents), world.relevant[world.test]))


def _dropping(model: Any, share: float) -> None:
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share
