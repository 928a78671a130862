"""Pools of documents hold what their rules say; hard negatives are the nearest, and outlive a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from diptych_training.recipes.dexml import (
    LabelPool,
    PoolCollator,
    PoolOptions,
    PoolRefresh,
    ShuffledBatches,
    hard_negatives,
)
from diptych_training.relevance import Candidates
from given_embeddings import drawn

DOCUMENTS = 12
POSITIVES: Mapping[int, Sequence[int]] = {
    query: np.random.default_rng(query).choice(DOCUMENTS, 1 + query % 5, replace=False).tolist() for query in range(20)
}


def target(queries: Sequence[int], documents: Sequence[int]) -> Tensor:
    """The relevance of each pair, looked up one by one."""
    return torch.tensor([[document in POSITIVES[query] for document in documents] for query in queries])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), size=st.integers(1, 12))
def test_what_is_relevant_in_a_pool_is_the_join_with_all_judgements(seed: int, size: int) -> None:
    queries = np.random.default_rng(seed).integers(20, size=6).tolist()
    pool = LabelPool(POSITIVES, documents=DOCUMENTS, size=size, num_pos=1, seed=seed)
    made, again = pool.draw(queries), LabelPool(POSITIVES, documents=DOCUMENTS, size=size, num_pos=1, seed=seed)
    assert np.array_equal(made.documents, again.draw(queries).documents)
    kept = [queries[place] for place in made.query_rows]
    found = Candidates.pooled(torch.tensor(kept), torch.as_tensor(made.documents), pool.relevance)
    assert torch.equal(found.positive, target(kept, made.documents.tolist()))
    assert torch.equal(found.negative, ~found.positive)
    assert found.positive.gather(1, found.own_column[:, None]).all()
    assert not target([queries[n] for n in range(6) if n not in made.query_rows], made.documents.tolist()).any()


def test_the_positives_that_most_queries_share_stay_and_the_share_that_left_is_told() -> None:
    pool = LabelPool({0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [3]}, documents=5, size=2)
    made = pool.draw([0, 1, 2, 3])
    assert (made.documents.tolist(), made.query_rows.tolist()) == ([0, 1], [0, 1, 2])
    assert pool.dropped_share == pytest.approx(2 / 7)
    few = LabelPool(POSITIVES, documents=DOCUMENTS, size=50, num_pos=2, num_neg=0)
    for query, own in POSITIVES.items():
        assert len({*few.draw([query]).documents.tolist()} & {*own}) == min(2, len(own))


@pytest.mark.parametrize(("size", "wanted"), [(5, [0, 1, 5, 6, 7]), (4, [0, 1, 5, 6]), (2, [0, 1])])
def test_hard_negatives_fill_the_room_that_is_left_those_first_that_queries_share(size: int, wanted: list[int]) -> None:
    pool = LabelPool({0: [0], 1: [1]}, documents=9, size=size, num_neg=3)
    pool.negatives = {0: np.array([1, 5, 6]), 1: np.array([5, 6, 7])}
    assert sorted(pool.draw([0, 1]).documents.tolist()) == wanted


def features(texts: list[str], prompt: str | None = None, task: str | None = None) -> dict[str, Any]:
    """What a model makes of texts, here their lengths with the prompt."""
    return {"input_ids": torch.tensor([[len((prompt or "") + text)] for text in texts])}


def test_the_collator_makes_two_columns_and_their_ids_and_drops_queries_without_a_positive() -> None:
    pool = LabelPool({0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [3]}, documents=5, size=2)
    collate = PoolCollator(features, pool, ["a", "bb", "ccc", "dddd", "eeeee"], prompts={"query": "q: "})
    batch = collate([{"query": "x" * number, "label": [number, 0]} for number in range(4)])
    assert batch["query_input_ids"].tolist() == [[3], [4], [5]]
    assert batch["document_input_ids"].tolist() == [[1], [2]]
    assert batch["label"].tolist() == [0, 1, 2, 0, 1]
    assert collate([{"query": "", "label": 3}])["label"].tolist() == [3, 3]


def test_hard_negatives_are_the_most_similar_documents_that_are_not_relevant() -> None:
    queries, documents = np.random.default_rng(0).normal(size=(2000, 5)), np.random.default_rng(1).normal(size=(40, 5))
    positives = {number: np.array([number % 40, (number * 7) % 40]) for number in range(100, 2100)}
    found, scores = hard_negatives(queries, documents, positives, 6), queries @ documents.T
    for row, (number, own) in enumerate(positives.items()):
        order = [one for one in np.argsort(-scores[row]).tolist() if one not in own]
        assert found[number].tolist() == order[:6]
    few = hard_negatives(np.eye(3), np.eye(3), {0: np.array([0]), 1: np.array([0, 1]), 2: np.array([1])}, 9)
    assert {number: sorted(own.tolist()) for number, own in few.items()} == {0: [1, 2], 1: [2], 2: [0, 2]}


def test_each_row_comes_once_an_epoch_and_seed_and_epoch_give_the_same_batches() -> None:
    sampler = ShuffledBatches(range(100), 16, False, seed=1)
    first = list(sampler)
    assert sorted(row for batch in first for row in batch) == list(range(100))
    assert [len(batch) for batch in first] == [16] * 6 + [4]
    assert [len(batch) for batch in ShuffledBatches(range(100), 16, True, seed=1)] == [16] * 6
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


class Tables:
    """A model of texts that are numbers."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.queries, self.documents, self.asked = normalize(drawn(1, 30, 4)), normalize(drawn(2, 7, 4)), 0

    def encode_query(self, texts: list[str], **_: Any) -> Any:
        self.asked += 1
        return [self.queries[int(text)] for text in texts]

    def encode_document(self, texts: list[str], **_: Any) -> Any:
        return [self.documents[int(text)] for text in texts]


def refresh(folder: Path, **options: Any) -> PoolRefresh:
    queries, documents = ([str(number) for number in range(size)] for size in (30, 7))
    positives = {number: [number % 7, (3 * number) % 7] for number in range(30)}
    pool = LabelPool(positives, documents=7, size=5, num_neg=2)
    return PoolRefresh(Tables(), queries, documents, pool, PoolOptions(**options), folder)


def begin(callback: PoolRefresh, epoch: float) -> dict[int, list[int]]:
    callback.on_epoch_begin(SimpleNamespace(bf16=False), SimpleNamespace(epoch=epoch), None)
    return {number: own.tolist() for number, own in callback.pool.negatives.items()}


def test_negatives_are_mined_every_few_epochs_from_their_first_epoch_on(tmp_path: Path) -> None:
    callback, asked = refresh(tmp_path, refresh_every=3, mine_from=1), []
    assert not begin(callback, 0)
    for epoch in range(1, 8):
        begin(callback, epoch)
        asked.append(callback.model.asked)
    assert asked == [1, 1, 1, 2, 2, 2, 3]
    model = callback.model
    wanted = hard_negatives(model.queries.numpy(), model.documents.numpy(), callback.pool.positives, 6)
    assert begin(callback, 8) == {number: own.tolist() for number, own in wanted.items()}


def test_a_training_that_goes_on_takes_what_was_found_and_a_new_one_does_not(tmp_path: Path) -> None:
    found = begin(refresh(tmp_path, refresh_every=3), 0)
    for epoch, asked in ((1.5, 0), (0, 1)):
        callback = refresh(tmp_path, refresh_every=3)
        callback.model.queries = -callback.model.queries  # the model has moved since
        assert (begin(callback, epoch) == found) is (asked == 0)
        assert callback.model.asked == asked
