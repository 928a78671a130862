"""LexLIP for text on H-lex: the lexicon-bottleneck before the fine-tuning, beside none and beside masked words alone.

All sides are fine-tuned by as many steps on the same queries: cosines over .05, FLOPS .002 of unit vectors, both of the
paper, and the batch alone as negatives. Before that, two of them see the 2,000 documents without any query for as many
steps: masked words with the bottleneck, or masked words alone. Nothing is tuned. Before any seed was measured the first
phase was cut from 600 steps of 32 documents to 300 of 16, for time.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from diptych_training.losses import ContrastiveLoss, LexiconBottleneckLoss
from diptych_training.models.lexicon import lexicon
from effects.lex import Lex, lex
from effects.running import Effect, each, effect
from effects.scoring import Doubles, ndcg
from effects.splade import Penalized, TinyLexicon
from effects.tiny import saved, scores, trained
from effects.vec import shuffled

FIRST, SECOND, BATCH, RATE = 300, 60, 16, 1e-3  # steps before and of the fine-tuning
Start: TypeAlias = Literal["random weights", "masked words", "bottleneck"]


def effects() -> list[Effect]:
    """nDCG@10 after a short fine-tuning."""
    starts: tuple[Start, ...] = ("random weights", "masked words", "bottleneck")
    nothing, masked, whole = (each(partial(run, start)) for start in starts)
    sides = (("first phase beside none", nothing), ("first phase beside masked words alone", masked))
    return [effect("LexLIP text", name, "H-lex", "nDCG@10", one, whole, page="lexlip_text") for name, one in sides]


def run(start: Start, seed: int) -> Doubles:
    """nDCG@10 by query after the fine-tuning from this start."""
    world = lex(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = lexicon(saved(world, Path(folder), seed=seed))
    if start != "random weights":
        first(model, world, seed, bottleneck=start == "bottleneck")
    student = TinyLexicon(model[0].auto_model)
    main = ContrastiveLoss(None, tau=0.05, relevance=world.relevance())
    loss: Any = Penalized(main, 0.002, ramp=SECOND // 3, unit=True)
    trained(world, world.rows(), loss, seed=seed, model=student, steps=SECOND)
    return ndcg(scores(student, world), world.relevant[world.test])


def first(model: Any, world: Lex, seed: int, *, bottleneck: bool) -> None:
    """The first phase, in place."""
    loss = LexiconBottleneckLoss(model, seed=seed)
    loss.train()
    adam = torch.optim.AdamW(loss.parameters(), lr=RATE, weight_decay=0.0)
    features = model.preprocess(list(world.documents))
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    for places in shuffled(len(world.documents), BATCH, FIRST, seed):
        parts = loss([{name: value[places] for name, value in tensors.items()}])
        value = parts["encoder_loss"] + (parts["decoder_loss"] if bottleneck else 0.0)
        adam.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
        adam.step()
