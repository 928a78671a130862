"""Mixed negatives are what MoCHi says they are."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from diptych_training.losses.extra_negatives import Mixing
from given_embeddings import drawn


def test_mixed_negatives_have_unit_length_and_lie_between_their_parts() -> None:
    queries, documents = normalize(drawn(1, 4, 8).abs()), normalize(drawn(2, 20, 8).abs())
    similarity = queries @ documents.T
    negative = torch.ones(4, 20, dtype=torch.bool)
    mixed, counted = Mixing(hardest=5, pairs=40, with_query=40).mixed(queries, documents, similarity, negative)
    assert counted.all()
    assert torch.allclose(mixed.norm(dim=-1), torch.ones(4, 80))
    scores = torch.einsum("bd,bnd->bn", queries, mixed)
    hardest = similarity.topk(5).values
    assert (scores[:, :40] >= hardest[:, -1:] - 1e-6).all()  # at least as hard as the easier part
    assert (scores[:, 40:] > hardest[:, -1:]).all()  # with the query: harder than its source


def test_a_mix_with_the_query_stays_nearer_to_its_negative() -> None:
    query, negative = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    mixed, _ = Mixing(hardest=1, pairs=0, with_query=500).mixed(
        query, negative, query @ negative.T, torch.tensor([[True]])
    )
    assert (mixed[0] @ query[0] <= mixed[0] @ negative[0] + 1e-6).all()


def test_what_is_relevant_is_never_mixed_and_nothing_to_mix_does_not_count() -> None:
    documents = torch.eye(3)
    negative = torch.tensor([[False, True, False], [False, False, False]])
    queries = normalize(torch.tensor([[1.0, 0.1, 0.9], [1.0, 1.0, 1.0]]))
    mixed, counted = Mixing(hardest=3, pairs=50, with_query=0).mixed(
        queries, documents, queries @ documents.T, negative
    )
    assert torch.allclose(mixed[0], documents[1].expand(50, 3))
    assert counted.tolist() == [True, False]


def test_no_gradient_goes_into_the_parts() -> None:
    queries, documents = drawn(1, 2, 4).requires_grad_(), drawn(2, 6, 4).requires_grad_()
    scores, _ = Mixing(pairs=3, with_query=3)(
        queries, documents, (queries @ documents.T).detach(), torch.ones(2, 6, dtype=torch.bool)
    )
    scores.sum().backward()
    assert documents.grad is None
    assert queries.grad is not None  # as the one that is compared, not as a part


def test_a_seed_gives_the_same_mixes_again() -> None:
    given = (normalize(drawn(1, 2, 4)), normalize(drawn(2, 6, 4)), drawn(3, 2, 6), torch.ones(2, 6, dtype=torch.bool))
    first, second = (Mixing(pairs=4, with_query=4, seed=7).mixed(*given)[0] for _ in range(2))
    assert torch.equal(first, second)


def mixes(hardest: int, pairs: int, with_query: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities of queries with their mixes and with their negatives, the hardest first."""
    queries, documents = normalize(drawn(5, 200, 16).abs()), normalize(drawn(6, 400, 16).abs())
    similarity = queries @ documents.T
    mixed, _ = Mixing(hardest=hardest, pairs=pairs, with_query=with_query).mixed(
        queries, documents, similarity, torch.ones(200, 400, dtype=torch.bool)
    )
    return torch.einsum("bd,bnd->bn", queries, mixed), similarity.sort(1, descending=True).values


def test_a_mix_with_the_query_is_always_harder_than_its_source() -> None:
    found, negatives = mixes(hardest=1, pairs=0, with_query=50)  # one source: the hardest
    assert (found > negatives[:, :1] - 1e-6).all()
    assert (found > negatives[:, :1] + 1e-3).float().mean() > 0.9


def test_a_mix_of_two_negatives_is_at_least_as_hard_as_the_easier_and_mostly_harder_than_both() -> None:
    found, negatives = mixes(hardest=2, pairs=50, with_query=0)  # two sources, at times the same one twice
    assert (found >= negatives[:, 1:2] - 1e-6).all()
    harder = (found > negatives[:, :1] + 1e-6).float().mean()  # half of the mixes are of one source alone
    assert 0.3 < harder < 0.5
