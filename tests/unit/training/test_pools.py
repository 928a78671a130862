"""Pools of documents hold what their rules say, and a pool of all documents is the loss over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import normalize

from diptych.errors import ContractError
from diptych_training.label_pool import LabelPool, PoolCollator
from diptych_training.losses import CachedLoss, ContrastiveLoss, SoftTopKLoss
from diptych_training.losses.contrastive import contrastive
from diptych_training.losses.listwise import log_soft_top_k
from diptych_training.relevance import Candidates, Relevance
from given_embeddings import Given, columns, drawn

DOCUMENTS = 12
POSITIVES: Mapping[int, Sequence[int]] = {
    query: np.random.default_rng(query).choice(DOCUMENTS, 1 + query % 5, replace=False).tolist() for query in range(20)
}


def target(queries: Sequence[int], documents: Sequence[int]) -> Tensor:
    """The relevance of each pair, looked up one by one."""
    return torch.tensor([[document in POSITIVES[query] for document in documents] for query in queries])


def pooled(queries: Sequence[int], documents: Any) -> Candidates:
    relevance = Relevance((query, own) for query, all_ in POSITIVES.items() for own in all_)
    return Candidates.pooled(torch.tensor(queries), torch.as_tensor(documents), relevance)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), size=st.integers(1, 12))
def test_the_target_matrix_is_the_join_of_batch_and_pool_with_all_judgements(seed: int, size: int) -> None:
    queries = np.random.default_rng(seed).integers(20, size=6).tolist()
    pool = LabelPool(POSITIVES, documents=DOCUMENTS, size=size, num_pos=1, seed=seed)
    made = pool.draw(queries)
    kept = [queries[place] for place in made.query_rows]
    found = pooled(kept, made.documents)
    assert torch.equal(found.positive, target(kept, made.documents.tolist()))
    assert torch.equal(found.negative, ~found.positive)
    assert found.positive.any(1).all()
    assert found.positive.gather(1, found.own_column[:, None]).all()
    assert not target([queries[n] for n in range(6) if n not in made.query_rows], made.documents.tolist()).any()


def test_a_document_that_stands_twice_in_a_pool_counts_once_and_unknown_ones_are_negatives() -> None:
    found = Candidates.pooled(torch.tensor([0, -1]), torch.tensor([3, 3, -1]), Relevance([(0, 3)]))
    assert found.positive.tolist() == [[True, False, False], [False, False, False]]
    assert found.negative.tolist() == [[False, False, True], [True, False, True]]


@pytest.mark.parametrize("reduction", ["decoupled", "supcon", "balanced"])
def test_the_pool_of_all_documents_gives_the_loss_over_all_documents(reduction: Any) -> None:
    queries = [0, 4, 7, 9, 4]
    made = LabelPool(POSITIVES, documents=DOCUMENTS).draw(queries)
    assert made.documents.tolist() == list(range(DOCUMENTS))
    embedded, every = drawn(1, 5, 8), drawn(2, DOCUMENTS, 8)
    scores, positive = normalize(embedded) @ normalize(every).T / 0.05, target(queries, range(DOCUMENTS))
    wanted = contrastive(scores, positive, ~positive, reduction=reduction)
    loss = ContrastiveLoss(Given(), reduction=reduction, relevance=LabelPool(POSITIVES, documents=DOCUMENTS).relevance)
    labels = torch.tensor([*queries, *made.documents])
    found = loss(columns(embedded, every[torch.from_numpy(made.documents)]), labels)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_soft_top_k_takes_pools_too() -> None:
    queries = [4, 9, 14]
    embedded, every = drawn(1, 3, 8), drawn(2, DOCUMENTS, 8)
    scores, positive = normalize(embedded) @ normalize(every).T / 0.05, target(queries, range(DOCUMENTS))
    logs = log_soft_top_k(scores, torch.full((3,), 5.0), 2.0)
    wanted = -torch.stack([row[own].mean() for row, own in zip(logs, positive, strict=True)]).mean()
    loss = SoftTopKLoss(Given(), relevance=LabelPool(POSITIVES, documents=DOCUMENTS).relevance)
    found = loss(columns(embedded, every), torch.tensor([*queries, *range(DOCUMENTS)]))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_gradient_caching_takes_columns_of_different_lengths() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(8, 6)

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": self.layer(features["input_ids"])}

    features = [{"input_ids": drawn(1, 3, 8)}, {"input_ids": drawn(2, DOCUMENTS, 8)}]
    labels, relevance = torch.tensor([4, 9, 14, *range(DOCUMENTS)]), LabelPool(POSITIVES, documents=12).relevance
    plain = ContrastiveLoss(Layer(), relevance=relevance)
    cached = CachedLoss(ContrastiveLoss(Layer(), relevance=relevance), mini_batch_size=5)
    plain(features, labels).backward()
    cached(features, labels).backward()
    assert torch.allclose(cached.model.layer.weight.grad, plain.model.layer.weight.grad, atol=1e-6)


def test_documents_that_belong_to_no_row_need_ids() -> None:
    with pytest.raises(
        ContractError, match=r"(?s)extra documents need ids.*got: None.*integers \[5\]: of 2 queries, then of 3"
    ):
        ContrastiveLoss(Given())(columns(drawn(1, 2, 8), drawn(2, 3, 8)))


def test_of_each_query_so_many_positives_come_at_most() -> None:
    only = LabelPool(POSITIVES, documents=DOCUMENTS, size=50, num_pos=2, num_neg=0)
    for query, own in POSITIVES.items():
        made = only.draw([query]).documents.tolist()
        assert len(made) == min(2, len(own))
        assert set(made) <= set(own)


def test_the_positives_that_most_queries_share_stay_and_the_share_that_left_is_told() -> None:
    positives = {0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [3]}
    pool = LabelPool(positives, documents=5, size=2)
    made = pool.draw([0, 1, 2, 3])
    assert made.documents.tolist() == [0, 1]
    assert made.query_rows.tolist() == [0, 1, 2]
    assert pool.dropped_share == pytest.approx(2 / 7)
    assert (pool.rows, pool.rows_dropped) == (4, 1)


def test_hard_negatives_fill_the_room_that_is_left_those_first_that_queries_share() -> None:
    pool = LabelPool({0: [0], 1: [1]}, documents=9, size=5, num_neg=3)
    pool.negatives = {0: np.array([1, 5, 6]), 1: np.array([5, 6, 7])}
    assert sorted(pool.draw([0, 1]).documents.tolist()) == [0, 1, 5, 6, 7]
    pool.size = 4
    assert sorted(pool.draw([0, 1]).documents.tolist()) == [0, 1, 5, 6]
    pool.size = 2
    assert sorted(pool.draw([0, 1]).documents.tolist()) == [0, 1]


def test_positives_and_negatives_are_drawn_evenly() -> None:
    counts = np.zeros(20, np.int64)
    for seed in range(4000):
        pool = LabelPool({0: range(8), 1: [0]}, documents=20, size=20, num_pos=3, num_neg=2, seed=seed)
        pool.negatives = {0: np.arange(10, 20)}
        counts += np.bincount(pool.draw([0]).documents, minlength=20)
    assert chisquare(counts[:8]).pvalue > 0.001
    assert chisquare(counts[10:]).pvalue > 0.001
    assert (counts[:8].sum(), counts[8:10].sum(), counts[10:].sum()) == (12000, 0, 8000)


def test_sampled_positives_are_drawn_evenly_and_the_others_do_not_count() -> None:
    positive = torch.zeros(4000, 10, dtype=torch.bool)
    positive[:, 2:7] = True
    relevance = Relevance((query, document) for query in range(4000) for document in range(2, 7))
    whole = Candidates.pooled(torch.arange(4000), torch.arange(10), relevance)
    torch.manual_seed(0)
    found = whole.sampled(2)
    assert (found.positive.sum(1) == 2).all()
    assert not (found.positive & ~positive).any()
    assert torch.equal(found.negative, ~positive)
    assert chisquare(found.positive.sum(0)[2:7].numpy()).pvalue > 0.001
    assert torch.equal(whole.sampled(9).positive, positive)


def test_one_sampled_positive_is_infonce_without_the_others() -> None:
    embedded, every, query = drawn(1, 1, 8), drawn(2, DOCUMENTS, 8), 4
    loss = ContrastiveLoss(Given(), sample_positives=1, relevance=LabelPool(POSITIVES, documents=DOCUMENTS).relevance)
    torch.manual_seed(3)
    found = loss(columns(embedded, every), torch.tensor([query, *range(DOCUMENTS)])).item()
    scores = (normalize(embedded) @ normalize(every).T / 0.05)[0]
    others = [n for n in range(DOCUMENTS) if n not in POSITIVES[query]]
    terms = [(scores[[own, *others]].logsumexp(0) - scores[own]).item() for own in POSITIVES[query]]
    assert min(abs(found - term) for term in terms) < 1e-4


def test_the_same_batch_gives_the_same_pool_and_another_seed_another() -> None:
    queries = [3, 4, 8, 9, 13, 14]
    made = [LabelPool(POSITIVES, documents=12, size=8, num_pos=2, seed=seed).draw(queries) for seed in (0, 0, 1)]
    assert np.array_equal(made[0].documents, made[1].documents)
    assert not np.array_equal(made[0].documents, made[2].documents)


@pytest.mark.parametrize(
    ("positives", "options", "text"),
    [
        ({0: [1], 1: []}, {}, r"(?s)queries have no positive.*\[1\].*leave them out"),
        ({0: [12]}, {}, r"(?s)out of range.*documents 12 to 12.*0 to 11"),
        ({0: [-1]}, {}, r"(?s)out of range.*documents -1"),
        ({0: [1]}, {"size": 0}, r"(?s)the pool has no room.*size 0"),
    ],
)
def test_pools_that_cannot_be_drawn_are_refused(
    positives: dict[int, list[int]], options: dict[str, int], text: str
) -> None:
    with pytest.raises(ContractError, match=text):
        LabelPool(positives, documents=12, **options)


def test_a_query_that_the_pool_does_not_know_is_an_error() -> None:
    with pytest.raises(ContractError, match=r"(?s)query of the batch has no positives.*\[77\]"):
        LabelPool(POSITIVES, documents=12).draw([0, 77])


def features(texts: list[str], prompt: str | None = None, task: str | None = None) -> dict[str, Any]:
    """What a model makes of texts, here their lengths with the prompt."""
    return {"input_ids": torch.tensor([[len((prompt or "") + text)] for text in texts])}


def test_the_collator_makes_two_columns_and_their_ids_and_drops_queries_without_a_positive() -> None:
    pool = LabelPool({0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [3]}, documents=5, size=2)
    collate = PoolCollator(features, pool, ["a", "bb", "ccc", "dddd", "eeeee"], prompts={"query": "q: "})
    rows = [{"query": "x" * number, "label": [number, 0]} for number in range(4)]
    batch = collate(rows)
    assert batch["query_input_ids"].tolist() == [[3], [4], [5]]
    assert batch["document_input_ids"].tolist() == [[1], [2]]
    assert batch["label"].tolist() == [0, 1, 2, 0, 1]
    assert collate([{"query": "", "label": 3}])["label"].tolist() == [3, 3]


def test_texts_of_another_number_of_documents_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)differs from the number of documents.*2 texts.*12, as the pool has"):
        PoolCollator(features, LabelPool(POSITIVES, documents=12), ["a", "b"])
