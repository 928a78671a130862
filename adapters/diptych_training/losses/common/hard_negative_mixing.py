"""Hard negatives mixed of others in the space of embeddings.

MoCHi: Kalantidis et al., "Hard Negative Mixing for Contrastive Learning", NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych_training.losses.common.random_draws import Draws


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
        self._draws = Draws(seed)
        self.register_buffer("step", torch.tensor(0))

    def __repr__(self) -> str:
        given = f"hardest={self.hardest}, pairs={self.pairs}, with_query={self.with_query}"
        return f"Mixing({given}, start_step={self.start_step})"

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
        first, second = (self._drawn(places, available, self.pairs, random) for _ in range(2))
        share = _uniform(len(queries), self.pairs, random).to(queries)
        pairs = share * documents[first] + (1 - share) * documents[second]
        chosen = self._drawn(places, available, self.with_query, random)
        share = _uniform(len(queries), self.with_query, random).to(queries) / 2
        beside = share * queries[:, None] + (1 - share) * documents[chosen]
        return torch.nn.functional.normalize(torch.cat([pairs, beside], 1), dim=-1), available > 0

    def _drawn(self, places: Tensor, available: Tensor, number: int, random: torch.Generator) -> Tensor:
        """`[B, number]` columns, each one of the `available` first of `places`."""
        share = _uniform(len(places), number, random)[..., 0].to(places.device)
        return places.gather(1, (share * available.clamp(min=1)[:, None]).long())


def _uniform(rows: int, columns: int, random: torch.Generator) -> Tensor:
    return torch.rand(rows, columns, 1, generator=random)
