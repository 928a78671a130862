"""Small encoders over the words of a world, trained in a plain loop with any loss of `diptych_training`.

    world = lex(0)
    model = trained(world, world.rows(), ContrastiveLoss(None, relevance=world.relevance()), seed=0)
    ndcg(scores(model, world), world.relevant[world.test])

`Words`, the mean of word vectors, is what is trained unless another is given: it can tell what matters in H-lex, where
the order of words says nothing, and a run takes a second. `Tiny.of(len(world.words), seed=0)` is a BERT of 2 layers, at
some 40 ms a step of one core; give it a rate of 1e-3. `saved` writes such a BERT with its tokenizer as a folder, for
what wants sentence-transformers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer

from diptych_training.losses import RetrievalLoss
from effects.vec import shuffled
from effects.world import Numbers, World

STEPS, BATCH, RATE, WIDTH = 200, 32, 1e-2, 64
LabelsOf = Callable[[Tensor], Tensor]


class Encoder(torch.nn.Module, ABC):
    """Tokens, int64 `[n, t]` with 0 where there is none, to embeddings `[n, width]`."""

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """As sentence-transformers calls models: `input_ids` in, `sentence_embedding` out."""
        return {"sentence_embedding": self.embed(features["input_ids"])}

    @torch.no_grad()
    def embedded(self, tokens: Tensor, batch: int = 256) -> Tensor:
        """The embeddings of many texts, without gradient."""
        self.eval()
        return torch.cat([self.embed(part) for part in torch.split(tokens, batch)])


class Words(Encoder):
    """The mean of the vectors of a text's words, as static encoders have it; a step takes a millisecond."""

    def __init__(self, words: int, *, seed: int, width: int = WIDTH) -> None:
        super().__init__()
        drawn = torch.randn(words, width, generator=torch.Generator().manual_seed(seed))
        self.vectors = torch.nn.Parameter(drawn / width**0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""
        return torch.nn.functional.embedding_bag(tokens, self.vectors, mode="mean", padding_idx=0)


class Tiny(Encoder):
    """The mean of the last states of a BERT."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    @classmethod
    def of(cls, words: int, *, seed: int, width: int = WIDTH, layers: int = 2) -> Tiny:
        """With random weights, the same for the same seed."""
        torch.manual_seed(seed)
        return cls(BertModel(shape(words, width, layers), add_pooling_layer=False))

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings of texts."""
        mask = (tokens > 0).long()
        states: Tensor = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def shape(words: int, width: int = WIDTH, layers: int = 2) -> BertConfig:
    """A BERT without dropout, so that two runs differ in nothing but what is compared."""
    none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    size: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
    }
    return BertConfig(vocab_size=words, max_position_embeddings=256, **size, **none)


def trained(
    world: World,
    rows: Tensor,
    loss: RetrievalLoss,
    *,
    seed: int,
    steps: int = STEPS,
    size: int = BATCH,
    rate: float = RATE,
    model: Encoder | None = None,
    batches: Iterable[Tensor] | None = None,
    labels: LabelsOf | None = None,
) -> Encoder:
    """The model after a training: Adam, warmed up over a tenth of the steps, then falling to 0.

    Args:
        world: whose texts are embedded.
        rows: `(query, document, ...)`, int64 `[n, 2 + H]`; a batch takes some of them.
        loss: asked with embeddings; what it has of parameters is trained with the model's.
        seed: of weights and batches.
        steps, size, rate: of the training; rows of a step.
        model: to train, instead of random vectors of words.
        batches: places of rows, step by step, instead of all rows in random order.
        labels: of a batch `(places) -> labels`; its rows, which are ids, unless given.
    """
    student = model or Words(len(world.words), seed=seed)
    student.train()
    loss.train()
    parts = [*student.parameters(), *(own for own in loss.parameters() if own.requires_grad)]
    adam = torch.optim.AdamW(parts, lr=rate, weight_decay=0.0)
    plan = warmed_up(adam, steps)
    given = shuffled(len(rows), size, steps, seed) if batches is None else batches
    for _, places in zip(range(steps), given, strict=False):
        adam.zero_grad()
        own = rows[places]
        value = loss.compute_loss_from_embeddings(
            columns(student, world, own), own if labels is None else labels(places)
        )
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        adam.step()
        plan.step()
    return student


def warmed_up(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of a rate that rises over a tenth of the steps, then falls to 0."""
    warm = max(1, steps // 10)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )


def columns(model: Encoder, world: World, rows: Tensor) -> list[Tensor]:
    """The embeddings of rows `(query, document, ...)`, column by column, as losses want them."""
    places = rows[:, 1:].T.reshape(-1)
    documents = torch.split(model.embed(world.document_tokens[places]), len(rows))
    return [model.embed(world.query_tokens[rows[:, 0]]), *documents]


def scores(model: Encoder, world: World, queries: Numbers | None = None, *, dot: bool = False) -> NDArray[np.float64]:
    """Cosines, or dot products, of queries, the test ones unless given, with all documents `[queries, documents]`."""
    asked = torch.from_numpy(world.test if queries is None else queries)
    parts = [model.embedded(world.query_tokens[asked]), model.embedded(world.document_tokens)]
    left, right = (part.double() if dot else torch.nn.functional.normalize(part.double(), dim=1) for part in parts)
    found: NDArray[np.float64] = (left @ right.T).numpy()
    return found


def saved(world: World, folder: Path, *, seed: int, width: int = WIDTH, layers: int = 2) -> Path:
    """A folder with a random BertForMaskedLM of this shape and a tokenizer of the world's words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(world.words), encoding="utf-8")
    torch.manual_seed(seed)
    BertForMaskedLM(shape(len(world.words), width, layers)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=256).save_pretrained(folder)
    return folder


def searched(world: World, loss: RetrievalLoss, *, seed: int, **training: Any) -> NDArray[np.float64]:
    """Cosines of the test queries with all documents after training on all relevant pairs of the training queries."""
    return scores(trained(world, world.rows(), loss, seed=seed, **training), world)
