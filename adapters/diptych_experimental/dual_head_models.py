"""One encoder with two heads, for judged relevance and for a teacher's scores, mixed when it serves.

DHO: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
Optimization", 2025, carried over to retrieval. The heads are linear, `h_A = A z` and `h_B = B z` of the pooled vector z
of unit length, and compare by dot product. So one Dense layer serves both: for the weight a of head A
`[sqrt(a) h_A ; sqrt(1 - a) h_B]` on both sides gives the scores `a s_A + (1 - a) s_B`; so does `[a h_A ; (1 - a) h_B]`
of queries beside `[h_A ; h_B]` of documents, where another weight changes no document's vector.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from torch import Tensor, nn

from diptych.errors import ContractError
from diptych.protocols import BLOCKS_FILE
from diptych_training.losses.base import Features, RetrievalLoss
from diptych_training.losses.contrastive import ContrastiveLoss
from diptych_training.losses.distillation import KLDistillation, RowDistillation
from diptych_training.teacher_scores import split_labels
from diptych_training.trained_module import TrainedModule, assembled, last_of, parts_of, saved

Sides: TypeAlias = Literal["both", "query"]
HEADS = ("head_a", "head_b")
Scores: TypeAlias = NDArray[np.floating[Any]]
GRID = tuple(round(0.05 * step, 2) for step in range(21))


class DualHead(TrainedModule):
    """Two linear heads over a vector of unit length.

    It adds `head_a` and `head_b`, `[B, dimension]` each, and takes them mixed as `sentence_embedding`.

    Args:
        width: of the pooled vector.
        dimension: of each head; heads of the same width begin as the identity.
        mix: the weight of head A in `sentence_embedding`, 0 to 1.
    """

    config_keys: list[str] = ["width", "dimension", "mix"]  # noqa: RUF012  # as sentence-transformers declares it

    def __init__(self, width: int, *, dimension: int | None = None, mix: float = 0.5) -> None:
        super().__init__()
        self.width, self.dimension, self.mix = width, dimension or width, mix
        self.head_a, self.head_b = (nn.Linear(width, self.dimension, bias=False) for _ in HEADS)
        if self.dimension == width:
            for head in (self.head_a, self.head_b):
                nn.init.eye_(head.weight)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features with both heads."""
        pooled = nn.functional.normalize(features["sentence_embedding"], dim=-1)
        features["head_a"], features["head_b"] = self.head_a(pooled), self.head_b(pooled)
        features["sentence_embedding"] = mixed(features["head_a"], features["head_b"], self.mix)
        return features

    def get_embedding_dimension(self) -> int:
        """The width of the mixed vector."""
        return 2 * self.dimension

    def weight(self, a: float, b: float) -> Tensor:
        """The weights `[dimension or twice that, width]` for `[a h_A ; b h_B]`; 0 leaves a head out."""
        factors = ((a, self.head_a), (b, self.head_b))
        return torch.cat([factor * head.weight.detach() for factor, head in factors if factor])


def mixed(head_a: Tensor, head_b: Tensor, mix: float) -> Tensor:
    """`[sqrt(a) h_A ; sqrt(1 - a) h_B]`, `[B, 2 * dimension]`, a = mix."""
    _check_mix(mix)
    return torch.cat([math.sqrt(mix) * head_a, math.sqrt(1 - mix) * head_b], -1)


def dual_head(model: SentenceTransformer, *, dimension: int | None = None, mix: float = 0.5) -> SentenceTransformer:
    """The model with two heads, to be trained by `DualHeadLoss`; it shares the given one's weights.

    Args:
        model: Transformer, Pooling, perhaps Dense and Normalize.
        dimension, mix: see `DualHead`.

    Raises:
        ContractError: a model of other parts.
    """
    parts = parts_of(model, where="dual_head", allowed=("Pooling", "Dense", "LayerNorm", "Normalize"))
    width = int(model.get_embedding_dimension() or 0)
    return assembled(model, [*_unnormalized(parts), DualHead(width, dimension=dimension, mix=mix)], similarity="dot")


def export_dual_head(
    model: SentenceTransformer, folder: Path, *, mix: float | None = None, sides: Sides = "both"
) -> Path:
    """A plain folder of sentence-transformers that compares by dot product.

    Args:
        model: of `dual_head`, trained.
        folder: where it comes.
        mix: the weight a of head A; the model's own unless given. At 1 and 0 the other head is left out, unless only
            queries carry the weight. With both, `blocks.json` names them, for `explain`.
        sides: which carry it: `both`, or `query` alone, where documents keep their vectors whatever the weight.
    """
    heads: DualHead = last_of(model, DualHead, do="make it by dual_head")
    served = saved(mixed_model(model, mix=mix, sides=sides), folder)
    if sides == "query" or 0 < (heads.mix if mix is None else mix) < 1:
        (served / BLOCKS_FILE).write_text(json.dumps(dict.fromkeys(HEADS, heads.dimension)), "utf-8")
    return served


def mixed_model(model: SentenceTransformer, *, mix: float | None = None, sides: Sides = "both") -> SentenceTransformer:
    """The plain model that `export_dual_head` writes; it shares the transformer of the given one."""
    heads: DualHead = last_of(model, DualHead, do="make it by dual_head")
    a = heads.mix if mix is None else mix
    _check_mix(a)
    parts = [*list(model.children())[:-1], Normalize()]
    if sides == "both":
        return assembled(model, [*parts, _dense(heads.weight(math.sqrt(a), math.sqrt(1 - a)))])
    if sides != "query":
        raise ContractError("unknown sides", where="export_dual_head", got=sides, expected="both, query")
    # A factor of 0 would leave out rows that the documents have.
    query_weight = torch.cat([a * heads.head_a.weight.detach(), (1 - a) * heads.head_b.weight.detach()])
    router = Router.for_query_document([_dense(query_weight)], [_dense(heads.weight(1, 1))])
    return assembled(model, [*parts, router])


def _unnormalized(parts: list[nn.Module]) -> list[nn.Module]:
    """The modules that stay, without Normalize: DualHead normalises by itself."""
    return parts[:-1] if isinstance(parts[-1], Normalize) else parts


def _dense(weight: Tensor) -> Dense:
    dimension, width = weight.shape
    return Dense(width, dimension, bias=False, activation_function=None, init_weight=weight.clone())


def _check_mix(mix: float) -> None:
    if not 0 <= mix <= 1:
        raise ContractError("unusable mix", where="dual head", got=mix, expected="from 0 to 1")


class Mix(NamedTuple):
    """A weight of head A and its score."""

    mix: float
    ndcg: float


def best_mix(
    scores_a: Scores,
    scores_b: Scores,
    gains: Scores,
    *,
    grid: Sequence[float] = GRID,
    k: int = 10,
) -> tuple[Mix, Mapping[float, float]]:
    """The weight of head A with the highest nDCG@k, the one nearest to 1/2 of equals, and the curve.

    Args:
        scores_a, scores_b: of each head, float `[queries, documents]`.
        gains: grades of the documents, `[queries, documents]`, 0 for what is not relevant.
        grid: weights to try.
        k: the cut-off.
    """
    curve = {a: float(ndcg(a * scores_a + (1 - a) * scores_b, gains, k=k).mean()) for a in grid}
    best = max(curve, key=lambda a: (round(curve[a], 12), -abs(a - 0.5)))
    return Mix(best, curve[best]), curve


def ndcg(scores: Scores, gains: Scores, *, k: int = 10) -> NDArray[np.float64]:
    """nDCG@k `[queries]` with linear gains; 0 for a query without relevant documents.

    Järvelin, Kekäläinen: "Cumulated Gain-based Evaluation of IR Techniques", TOIS 2002.

    Args:
        scores, gains: `[queries, documents]`.
    """
    depth = min(k, scores.shape[1])
    discounts = 1 / np.log2(np.arange(depth) + 2)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    gained = (np.take_along_axis(gains, best, 1) * discounts).sum(1)
    ideal = (-np.sort(-gains, axis=1)[:, :depth] * discounts).sum(1)
    return np.asarray(np.divide(gained, ideal, out=np.zeros(len(scores)), where=ideal > 0), np.float64)


class DualHeadLoss(torch.nn.Module):
    """A loss of relevance on head A over labelled rows, plus one of distillation on head B over all rows.

    Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head Optimization",
    2025. Neither head gets the other loss's gradient; the encoder below gets both.

    Requirements: (query, positive, negative_1, ...) columns; labels: float `[B, (2 + H) + (1 + H)]`, the ids of query,
    positive and negatives and after them the teacher's scores of positive and negatives (see `labels_of`). A row whose
    query's id is below 0 is unlabelled: it has no part in the loss of relevance.

    Args:
        model: of `dual_head`.
        supervised: of head A; InfoNCE by dot product unless given.
        distill: of head B; the Kullback-Leibler divergence by dot product with temperature 2 unless given.
        distill_weight: of the distillation, whose means over labelled and over unlabelled rows are added.
    """

    def __init__(
        self,
        model: Any,
        *,
        supervised: RetrievalLoss | None = None,
        distill: RowDistillation | None = None,
        distill_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.distill_weight = model, distill_weight
        self.supervised = supervised or ContrastiveLoss(model, similarity="dot")
        self.distill = distill or KLDistillation(model, similarity="dot", temperature=2.0)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The two losses of a batch, `supervised` and `distill`; their sum is what is trained."""
        columns = [self.model({**features}) for features in sentence_features]
        heads = [[column[name] for column in columns] for name in HEADS]
        return self.compute_losses_from_embeddings(heads[0], heads[1], labels)

    def compute_losses_from_embeddings(
        self, head_a: Sequence[Tensor], head_b: Sequence[Tensor], labels: Tensor | None
    ) -> dict[str, Tensor]:
        """The same from the columns' embeddings `[B, D]` by each head."""
        ids, scores = split_labels(labels, len(head_a[0]), len(head_a) - 1)
        distilled = self._distilled(head_b, scores, ids[:, 0] >= 0)
        return {"supervised": self._of_labelled(head_a, ids), "distill": self.distill_weight * distilled}

    def _distilled(self, embeddings: Sequence[Tensor], scores: Tensor, labelled: Tensor) -> Tensor:
        """The sum of two means, over labelled and over unlabelled rows, as the authors train it."""
        halves = [half for half in (labelled, ~labelled) if bool(half.any())]
        means = [
            self.distill.compute_loss_from_embeddings([column[half] for column in embeddings], scores[half])
            for half in halves
        ]
        return torch.stack(means).sum()

    def _of_labelled(self, embeddings: Sequence[Tensor], ids: Tensor) -> Tensor:
        labelled = ids[:, 0] >= 0
        if not bool(labelled.any()):
            return embeddings[0].sum() * 0
        columns = [column[labelled] for column in embeddings]
        return self.supervised.compute_loss_from_embeddings(columns, ids[labelled])

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        supervised: dict[str, Any] = getattr(self.supervised, "get_config_dict", dict)()
        return {
            "supervised": type(self.supervised).__name__,
            **supervised,
            "distill": type(self.distill).__name__,
            "distill_tau": self.distill.tau,
            "distill_weight": self.distill_weight,
        }
