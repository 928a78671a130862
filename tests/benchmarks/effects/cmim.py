"""cMIM on documents alone beside no training, beside A-MIM and beside SimCSE; H-lex.

The encoder is a tiny BERT of random weights, which sees 2,000 documents in 300 batches of 32 and then answers the test
queries; no query and no judgement is trained on. A-MIM is the same loss without the contrastive factor, SimCSE is
InfoNCE of two passes of the encoder with dropout 0.1. tau is each loss's default; nothing is tuned.
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
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.vec import shuffled
from sentence_models import Batch, cosines, embedded, fitted, model_of

STEPS, BATCH, RATE = 300, 32, 1e-3


def effects() -> list[Effect]:
    """Beside each of the others."""
    cmim = each(partial(run, "cmim"))
    baselines = {"no training": each(partial(run, "none")), "SimCSE": each(partial(run, "simcse"))}
    baselines["A-MIM"] = each(partial(run, "cmim", contrastive_weight=0.0))
    return [_effect(f"beside {name}", found, cmim) for name, found in baselines.items()]


def _effect(what: str, baseline: list[Doubles], found: list[Doubles]) -> Effect:
    return effect("cMIM", what, "H-lex", "nDCG@10", baseline, found, page="cmim")


def run(way: str, seed: int, **options: Any) -> Doubles:
    """nDCG@10 by test query."""
    world = lex(seed)
    model: Any = model_of(world, seed=seed)
    torch.manual_seed(seed)
    texts = [world.document_tokens[own] for own in shuffled(len(world.documents), BATCH, STEPS, seed)]
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
