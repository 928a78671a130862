"""Hard negatives are the nearest that are not relevant; clusters are even; what was found outlives a kill."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from diptych_training.label_pool import ClusterSampler, LabelPool, PoolRefresh, balanced_clusters, hard_negatives
from given_embeddings import drawn

POSITIVES = {number: [number % 7, (3 * number) % 7] for number in range(30)}


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


def test_hard_negatives_are_the_most_similar_documents_that_are_not_relevant() -> None:
    queries, documents = np.random.default_rng(0).normal(size=(2000, 5)), np.random.default_rng(1).normal(size=(40, 5))
    positives = {number: np.array([number % 40, (number * 7) % 40]) for number in range(100, 2100)}
    found = hard_negatives(queries, documents, positives, 6)
    scores = queries @ documents.T
    for row, (number, own) in enumerate(positives.items()):
        order = [one for one in np.argsort(-scores[row]).tolist() if one not in own]
        assert found[number].tolist() == order[:6]


def test_fewer_negatives_than_are_asked_for_are_all_there_are() -> None:
    found = hard_negatives(np.eye(3), np.eye(3), {0: np.array([0]), 1: np.array([0, 1]), 2: np.array([1])}, 9)
    assert {number: sorted(own.tolist()) for number, own in found.items()} == {0: [1, 2], 1: [2], 2: [0, 2]}


def test_clusters_are_of_even_size_and_hold_each_row_once() -> None:
    embeddings = np.random.default_rng(0).normal(size=(333, 6))
    clusters = balanced_clusters(embeddings, 16, np.random.default_rng(0))
    assert sorted(np.concatenate(clusters).tolist()) == list(range(333))
    assert all(8 <= len(own) <= 16 for own in clusters)


def test_rows_of_one_cluster_are_nearer_to_each_other_than_to_the_rest() -> None:
    centres = 5 * np.random.default_rng(0).normal(size=(8, 6))
    embeddings = np.repeat(centres, 32, 0) + np.random.default_rng(1).normal(size=(256, 6))
    spread = [embeddings[own].std(0).mean() for own in balanced_clusters(embeddings, 32, np.random.default_rng(2))]
    assert np.mean(spread) < 0.5 * embeddings.std(0).mean()


def test_batches_hold_rows_of_few_clusters_each_row_once_and_as_many_batches_as_without() -> None:
    clustered = ClusterSampler()
    sampler = clustered(range(100), 16, False, seed=1)
    plain = list(sampler)
    assert (len(plain), len(sampler)) == (7, 7)
    clustered.groups = [np.arange(start, min(start + 8, 100)) for start in range(0, 100, 8)]
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(100))
    assert [len(batch) for batch in batches] == [16] * 6 + [4]
    assert all(len({row // 8 for row in batch}) <= 4 for batch in batches)
    assert any(len({row // 8 for row in batch}) > 4 for batch in plain)
    assert [len(batch) for batch in clustered(range(100), 16, True, seed=1)] == [16] * 6
    assert list(sampler) == batches
    sampler.set_epoch(1)
    assert list(sampler) != batches


def refresh(folder: Path | None, **options: Any) -> PoolRefresh:
    queries, documents = ([str(number) for number in range(size)] for size in (30, 7))
    pool = LabelPool(POSITIVES, documents=7, size=5, num_neg=2)
    return PoolRefresh(Tables(), queries, documents, pool, ClusterSampler(), folder=folder, cluster_size=8, **options)


def begin(callback: PoolRefresh, epoch: float) -> None:
    callback.on_epoch_begin(SimpleNamespace(bf16=False), SimpleNamespace(epoch=epoch), None)


def test_negatives_come_at_once_and_clusters_from_their_epoch_on_every_few_epochs() -> None:
    callback = refresh(None, every=3, cluster_from=3)
    asked = []
    for epoch in range(8):
        begin(callback, epoch)
        asked.append(callback.model.asked)
        assert bool(callback.batches.groups) is (epoch >= 3)  # type: ignore[union-attr]
    assert asked == [1, 1, 1, 2, 2, 2, 3, 3]
    model = callback.model
    wanted = hard_negatives(model.queries.numpy(), model.documents.numpy(), callback.pool.positives, 6)
    assert {number: own.tolist() for number, own in callback.pool.negatives.items()} == {
        number: own.tolist() for number, own in wanted.items()
    }


def test_a_training_that_goes_on_takes_what_was_found_and_a_new_one_does_not(tmp_path: Path) -> None:
    first = refresh(tmp_path, every=3, cluster_from=0)
    begin(first, 0)
    resumed = refresh(tmp_path, every=3, cluster_from=0)
    resumed.model.queries = -resumed.model.queries  # the model has moved since
    begin(resumed, 1.5)
    assert resumed.model.asked == 0
    assert [own.tolist() for own in resumed.batches.groups] == [own.tolist() for own in first.batches.groups]  # type: ignore[union-attr]
    assert {n: own.tolist() for n, own in resumed.pool.negatives.items()} == {
        n: own.tolist() for n, own in first.pool.negatives.items()
    }
    fresh = refresh(tmp_path, every=3, cluster_from=0)
    fresh.model.queries = -fresh.model.queries
    begin(fresh, 0)
    assert fresh.model.asked == 1
    assert {n: own.tolist() for n, own in fresh.pool.negatives.items()} != {
        n: own.tolist() for n, own in first.pool.negatives.items()
    }


def test_negatives_can_begin_later() -> None:
    callback = refresh(None, every=2, mine_from=2, cluster_from=4)
    begin(callback, 1)
    assert not callback.pool.negatives
    begin(callback, 2)
    assert len(callback.pool.negatives) == 30
    assert callback.batches.groups == []  # type: ignore[union-attr]
