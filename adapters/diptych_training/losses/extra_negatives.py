"""Further negatives for any loss over a batch: documents of earlier batches, and mixes of the hardest.

Kalantidis et al., "Hard Negative Mixing for Contrastive Learning" (MoCHi), NeurIPS 2020: InfoNCE over the positive, the
queue and the mixes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.base import Features, RetrievalLoss, SeededDraws
from diptych_training.relevance import Candidates, Relevance


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


L = TypeVar("L", bound=RetrievalLoss)
Prepare: TypeAlias = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]


def with_extra_negatives(loss: L, *, mixing: Mixing | None = None, queue: int = 0, momentum: float | None = None) -> L:
    """The loss, extended with further negatives in training; nothing is encoded for them but by a `momentum` twin.

    Documents known to be relevant to a query, or left out by the loss's margin, are neither its negatives in the queue
    nor mixed. Relevance is known only with ids in the label column.

    Args:
        loss: contrastive, Hybrid-NCE, Mann-Whitney, focal, soft top-k, or CPRD; below `CachedLoss` and other wrappers.
        mixing: of hard negatives of the batch and the queue.
        queue: documents of earlier batches that are kept, as they were embedded then; 0 keeps none.
        momentum: of a slow copy of the model that embeds documents for the queue, as in the papers; None keeps what the
            model made of them. The positives of a batch are the model's own either way.

    Raises:
        ContractError: a loss that has no negatives of the batch, vectors that cannot be mixed or kept, or a twin
            without a queue.
    """
    if momentum is not None and not (queue and 0 <= momentum < 1):
        got, expected = f"momentum {momentum}, queue {queue}", "0 <= momentum < 1, and a queue"
        raise ContractError("unusable options", where="with_extra_negatives", got=got, expected=expected)
    if not loss.takes_further:
        where, do = type(loss).__name__, "use a loss over the negatives of the batch, before it is wrapped"
        raise ContractError("the loss does not support additional negatives", where=where, do=do)
    if loss.similarity == "maxsim" or (mixing is not None and loss.similarity != "cosine"):
        what = "tokens are not mixed or kept" if loss.similarity == "maxsim" else "mixes of unit length among others"
        do = 'train vectors of whole texts by similarity="cosine"'
        raise ContractError(what, where=type(loss).__name__, got=f"similarity {loss.similarity}", do=do)
    loss.more_negatives = ExtraNegatives(
        mixing, queue, None if momentum is None else MomentumEncoder(loss.model, momentum)
    )
    return loss


class ExtraNegatives(torch.nn.Module):
    """The extension that `with_extra_negatives` adds to a loss."""

    def __init__(self, mixing: Mixing | None, queue: int, twin: MomentumEncoder | None = None) -> None:
        super().__init__()
        self.mixing, self.queue, self._twin = mixing, Queue(queue), twin
        self._twin_embeddings: list[Tensor] = []

    def __repr__(self) -> str:
        momentum = f", momentum={self._twin.momentum}" if self._twin else ""
        kept = f"queue={self.queue.size}{momentum}"
        return f"{self.mixing}, {kept}" if self.mixing else kept

    def look_at(self, features: Sequence[Features]) -> None:
        """Let the twin, if there is one, take a step and encode the batch whose documents go to the queue."""
        if self._twin is not None:
            self._twin_embeddings = self._twin.encoded(features, follow=True)

    def state_aside(self) -> dict[str, Tensor]:
        """The twin's weights, in checkpoints beside the trained ones."""
        return {} if self._twin is None else self._twin.state()

    def load_aside(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the twin of `state_aside`."""
        if self._twin is not None:
            self._twin.load(state)

    def with_queue(
        self, documents: Tensor, candidates: Candidates, relevance: Relevance, *, prepared: Prepare
    ) -> tuple[Tensor, Candidates]:
        """The batch's documents `[M, D]`, of unit length for cosines, followed by the queue's.

        They go to the queue themselves, or what the twin made of them, `prepared` as the loss prepares embeddings.

        Raises:
            ContractError: the twin has not seen the batch.
        """
        if not self.queue.size:
            return documents, candidates
        vectors = torch.cat([documents, self.queue.like(documents)])
        widened = candidates.with_documents(self.queue.ids, relevance)
        self.queue.put(documents if self._twin is None else self._slow(documents, prepared), candidates.documents)
        return vectors, widened

    def _slow(self, documents: Tensor, prepared: Prepare) -> Tensor:
        embeddings, self._twin_embeddings = self._twin_embeddings, []
        vectors = prepared(embeddings)[1] if embeddings else documents[:0]
        if vectors.shape != documents.shape:
            do = "call look_at with the batch first, as forward does"
            raise ContractError("the momentum encoder has not seen this batch", where="with_extra_negatives", do=do)
        return vectors

    def mixed(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, candidates: Candidates
    ) -> tuple[Tensor, Candidates]:
        """Similarities and candidates `[B, M]`, followed by mixes, which have no id."""
        if self.mixing is None:
            return similarity, candidates
        scores, counted = self.mixing(queries, documents, similarity, candidates.negative)
        return torch.cat([similarity, scores], 1), candidates.with_negatives(counted)


# Hard negatives that are mixtures of others in embedding space.


class Mixing(torch.nn.Module):
    """Columns of mixed negatives for each query. Nothing is encoded for them, and no gradient goes into their parts.

    Of the `hardest` negatives of a query two are mixed, `a n + (1 - a) m` with a in 0..1, `pairs` times; and one with
    the query itself, `b q + (1 - b) n` with b in 0..0.5, `with_query` times; each of unit length. What is relevant to
    the query is none of its negatives and never mixed.

    Args:
        hardest: negatives that are mixed; fewer where a query has fewer.
        pairs, with_query: how many of each kind.
        start_step: calls that pass before mixing begins.
        seed: of the choices.
    """

    step: Tensor

    def __init__(
        self, *, hardest: int = 64, pairs: int = 64, with_query: int = 16, start_step: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.hardest, self.pairs, self.with_query, self.start_step = hardest, pairs, with_query, start_step
        self._draws = SeededDraws(seed)
        self.register_buffer("step", torch.tensor(0))

    def __repr__(self) -> str:
        settings = f"hardest={self.hardest}, pairs={self.pairs}, with_query={self.with_query}"
        return f"Mixing({settings}, start_step={self.start_step})"

    def forward(
        self, queries: Tensor, documents: Tensor, similarity: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Similarities `[B, pairs + with_query]` of the queries with their mixed negatives, and which of them count.

        Args:
            queries, documents: `[B, D]` and `[M, D]`, of unit length.
            similarity, negative: `[B, M]`.
        """
        self.step += 1
        if int(self.step) <= self.start_step:
            return similarity[:, :0], negative[:, :0]
        mixed, counted = self.mixed(queries.detach(), documents.detach(), similarity.detach(), negative)
        return torch.einsum("bd,bnd->bn", queries, mixed), counted[:, None].expand(mixed.shape[:2])

    def mixed(self, queries: Tensor, documents: Tensor, similarity: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed negatives `[B, pairs + with_query, D]`, and which queries have any `[B]`."""
        random = self._draws()
        number = min(self.hardest, documents.shape[0])
        places = similarity.masked_fill(~negative, -torch.inf).topk(number, 1).indices
        available = negative.sum(1).clamp(max=number)
        first, second = (self._draw(places, available, self.pairs, random) for _ in range(2))
        share = _uniform(len(queries), self.pairs, random).to(queries)
        pairs = share * documents[first] + (1 - share) * documents[second]
        partners = self._draw(places, available, self.with_query, random)
        share = _uniform(len(queries), self.with_query, random).to(queries) / 2
        with_query = share * queries[:, None] + (1 - share) * documents[partners]
        return torch.nn.functional.normalize(torch.cat([pairs, with_query], 1), dim=-1), available > 0

    def _draw(self, places: Tensor, available: Tensor, number: int, random: torch.Generator) -> Tensor:
        """`[B, number]` columns, each one of the `available` first of `places`."""
        share = _uniform(len(places), number, random)[..., 0].to(places.device)
        return places.gather(1, (share * available.clamp(min=1)[:, None]).long())


def _uniform(rows: int, columns: int, random: torch.Generator) -> Tensor:
    return torch.rand(rows, columns, 1, generator=random)


def tensors_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
