"""SPLADE on H-lex: what a rising weight of FLOPS does to terms and ranking.

A lexicon over 683 words is trained from random weights, with the contrast of queries and documents by dot product and
FLOPS on both sides, of one weight, ramped up over the first third of the steps. The table has as many steps as it takes
without it. The learning rate is the one for such a BERT; at ten times as much, a training without FLOPS may break down.
`tests/benchmarks/splade_plot.py` draws the curve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BertForMaskedLM

from diptych_training.losses import ContrastiveLoss
from diptych_training.recipes.splade import Flops, max_logits
from effects.lex import Lex, lex
from effects.running import FEW, SEEDS, TUNING, Effect, each, effect, learnt, plateau
from effects.scoring import Doubles, ndcg
from effects.tiny import WIDTH, Tiny, scores, shape, trained

WEIGHTS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
STEPS, RATE = 150, 1e-3  # steps of the curve, and the fewest of the table
LIGHT, STRONG = 0.01, 1.0  # of the table; neither was tuned
Found = tuple[Doubles, float, float]


class TinyLexicon(Tiny):
    """Tokens to term weights `[n, words]`: the greatest logit of each word over the tokens, log(1 + relu)."""

    @classmethod
    def of(cls, words: int, *, seed: int, width: int = WIDTH, layers: int = 2) -> TinyLexicon:
        """With random weights, the same for the same seed."""
        torch.manual_seed(seed)
        return cls(BertForMaskedLM(shape(words, width, layers)))

    def embed(self, tokens: Tensor) -> Tensor:
        """The term weights of texts."""
        mask = tokens > 0
        states = self.bert.bert(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        head = self.bert.cls.predictions
        return max_logits(head.transform(states), head.decoder, mask).relu().log1p()


class Penalized(torch.nn.Module):
    """A loss with FLOPS of both sides, whose weight rises with the square of the steps."""

    def __init__(self, loss: Any, weight: float, *, ramp: int) -> None:
        super().__init__()
        self.loss, self.weight, self.ramp, self.step = loss, weight, ramp, 0
        self.penalty = Flops()

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch."""
        part, self.step = min(1.0, self.step / self.ramp) ** 2, self.step + 1
        sides = (embeddings[0], torch.cat(list(embeddings[1:])))
        penalty = sum(self.penalty.compute_loss_from_embeddings(side) for side in sides)
        found: Tensor = self.loss.compute_loss_from_embeddings(embeddings, labels) + part * self.weight * penalty
        return found


def effects() -> list[Effect]:
    """Terms and nDCG@10 without, with a light and with a strong penalty."""
    steps, long_enough = plateau(
        lambda steps, seed: float(run(0.0, seed, steps)[0].mean()), STEPS, 8 * STEPS, TUNING[:1]
    )
    none, light, strong = (each(partial(run, weight, steps=steps), FEW) for weight in (0.0, LIGHT, STRONG))
    better = learnt([one[0] for one in none], [one[0] for one in each(partial(run, 0.0, steps=0), FEW)])
    rows, told = list[Effect](), [long_enough, better]
    for weight, found, kept in ((LIGHT, light, "equal"), (STRONG, strong, "lower")):
        name = f"FLOPS {weight:g} beside none"
        counts, ranked = ([[one[place] for one in side] for side in (none, found)] for place in (1, 0))
        rows.append(
            effect("SPLADE", name, "H-lex", "terms a document", *counts, better="lower", page="splade", conditions=told)
        )
        claimed: Any = {"better": kept, "tolerance": 0.02, "conditions": told}
        rows.append(effect("SPLADE", name, "H-lex", "nDCG@10", *ranked, page="splade", **claimed))
    return rows


def run(weight: float, seed: int, steps: int = STEPS, **given: Any) -> Found:
    """nDCG@10 by query, and the mean numbers of terms of documents and of queries."""
    world = lex(seed, **given)
    model = learned(world, weight, seed, steps)
    texts = (world.document_tokens, world.query_tokens[torch.from_numpy(world.test)])
    documents, queries = ((model.embedded(tokens) != 0).sum(1).double().mean().item() for tokens in texts)
    return ndcg(scores(model, world, dot=True), world.relevant[world.test]), documents, queries


def learned(world: Lex, weight: float, seed: int, steps: int) -> TinyLexicon:
    """The lexicon after its training."""
    student = TinyLexicon.of(len(world.words), seed=seed)
    main = ContrastiveLoss(None, similarity="dot", tau=1.0, relevance=world.relevance())
    loss: Any = Penalized(main, weight, ramp=steps // 3)
    trained(world, world.rows(), loss, seed=seed, model=student, steps=steps, rate=RATE)
    return student


def curve(seeds: Sequence[int] = SEEDS) -> list[dict[str, float]]:
    """For each weight: nDCG@10 and terms, means over seeds."""
    points = []
    for weight in WEIGHTS:
        found = [run(weight, seed) for seed in seeds]
        each_seed = np.array([(one[0].mean(), *one[1:]) for one in found])
        names = ("nDCG@10", "document terms", "query terms")
        points.append({"weight": weight, **dict(zip(names, each_seed.mean(0).tolist(), strict=True))})
        print(json.dumps(points[-1]), flush=True)
    return points


def draw(points: Sequence[dict[str, float]], path: Path) -> None:
    """nDCG@10 over the number of terms, with the weights beside the points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([point["document terms"] for point in points], [point["nDCG@10"] for point in points], "o-", markersize=4)
    for number, point in enumerate(points):
        place = (point["document terms"], point["nDCG@10"])
        beside = (4, 4) if place[1] < 0.2 else (-8, 6) if number == 1 else (4, -10)
        axes.annotate(f"{point['weight']:g}", place, xytext=beside, textcoords="offset points", fontsize=7)
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(
        xlim=(0, 1000),
        ylim=(0, 1.12),
        ylabel="nDCG@10",
        xlabel="terms a document; beside the points the weight of FLOPS",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
