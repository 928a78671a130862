"""What a model in training is compared with: its slow copy with a queue of vectors, or a reranker asked meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych_training.losses.base import Features
from diptych_training.losses.distillation import RowDistillation


class MomentumEncoder:
    """Follows a model: `twin = m twin + (1 - m) model` before each batch of a training.

    He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020.

    It is no module, so that a loss neither trains it nor keeps it among its weights, and dropout stays off.

    Args:
        model: that is trained; the twin is a copy of it as it is when it is first needed, low-rank adapters included.
        momentum: m.
    """

    def __init__(self, model: Any, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self._network: Any = None
        self._pending: dict[str, Tensor] = {}

    @property
    def network(self) -> Any:
        """The slow copy."""
        if self._network is None:
            self._network = copy.deepcopy(self.model).requires_grad_(False).eval()
            self._restore()
        return self._network

    def encoded(self, features: Sequence[Features], *, follow: bool) -> list[Tensor]:
        """The twin's embeddings of columns, each `[B, D]`; `follow` lets it take a step after the model first."""
        return [
            self.outputs(column, follow=follow and place == 0)["sentence_embedding"]
            for place, column in enumerate(features)
        ]

    @torch.no_grad()
    def outputs(self, features: Features, *, follow: bool) -> Features:
        """All that the twin makes of a column; `follow` lets it take a step after the model first."""
        self.network.to(next(self.model.parameters()).device)
        if follow:
            for slow, fast in zip(self.network.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast.detach().to(slow), 1 - self.momentum)
        outputs: Features = self.network(dict(features))
        return outputs

    def state(self) -> dict[str, Tensor]:
        """The weights, by name."""
        return tensors_of(self.network)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the weights of `state`; with none the twin starts anew, as a copy of the model."""
        self._pending = dict(state)
        if self._network is not None:
            self._restore()

    @torch.no_grad()
    def _restore(self) -> None:
        state, self._pending = self._pending, {}
        for name, value in tensors_of(self._network).items() if state else ():
            value.copy_(state[name])


class Queue(torch.nn.Module):
    """The last vectors that were put in, the newest first, without gradient; with the id of each, -1 where unknown.

    Both are buffers: a loss that holds a queue as its part has it in its checkpoints.

    Args:
        size: how many; each takes four bytes a dimension.
    """

    vectors: Tensor
    ids: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.empty(0, 0))
        self.register_buffer("ids", torch.empty(0, dtype=torch.int64))

    def put(self, vectors: Tensor, ids: Tensor) -> None:
        """Add `vectors [n, D]` with their `ids [n]`; the oldest are dropped."""
        self.vectors = torch.cat([vectors.detach(), self.like(vectors)])[: self.size]
        self.ids = torch.cat([ids, self.ids.to(ids.device)])[: self.size]

    def like(self, vectors: Tensor) -> Tensor:
        """The content, `[held, D]`, on the device of `vectors [n, D]` and with their width even when empty."""
        return self.vectors.to(vectors) if len(self.vectors) else vectors.new_empty(0, vectors.shape[1])


def tensors_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class Scoring:
    """A cross-encoder in training as a `Reranker`: raw scores, without its activation.

    Args:
        model: CrossEncoder.
        precision: of the arithmetic.
    """

    independent = True

    def __init__(self, model: Any, precision: str = "float32") -> None:
        self.model, self.precision, self.max_length = model, precision, model.max_seq_length

    def predict(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Scores float32 `[n]`."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            scores = self.model.predict(
                list(pairs),
                batch_size=64,
                show_progress_bar=False,
                convert_to_tensor=True,
                activation_fn=torch.nn.Identity(),
            )
        return np.asarray(scores.float().cpu().numpy(), np.float32)


class LiveTeacher:
    """A reranker's scores of the pairs of a batch, by their ids; each pair is scored once.

    Args:
        reranker: any with `predict`.
        queries, documents: the text of each id, which is its place.
    """

    def __init__(self, reranker: Any, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.reranker, self.queries, self.documents = reranker, queries, documents
        self.known: dict[tuple[int, int], float] = {}

    def __call__(self, ids: Tensor) -> Tensor:
        """Scores float32 `[B, C]` of the C documents of each row of ids `[B, 1 + C]`: query, then documents."""
        pairs = [[(row[0], document) for document in row[1:]] for row in ids.tolist()]
        if new := list(dict.fromkeys(pair for row in pairs for pair in row if pair not in self.known)):
            scores = self.reranker.predict([(self.queries[query], self.documents[document]) for query, document in new])
            self.known |= dict(zip(new, np.asarray(scores, np.float64).tolist(), strict=True))
        return torch.tensor([[self.known[pair] for pair in row] for row in pairs], dtype=torch.float32)


class LiveDistillation(torch.nn.Module):
    """A loss that distils a teacher, which is asked during training, by ids `[B, 2 + H]` in the label column."""

    def __init__(self, loss: RowDistillation, teacher: LiveTeacher) -> None:
        super().__init__()
        self.model, self.loss, self.teacher = loss.model, loss, teacher

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.loss(sentence_features, self.teacher(labels).to(labels.device))
        return loss
