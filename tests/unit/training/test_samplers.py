"""Batch samplers draw what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from diptych.errors import ContractError
from diptych_experimental.tas_balanced import Batches, GroupedBatches, PairedViews, TASBalanced

RANDOM = np.random.default_rng(0)
QUERIES = np.repeat(np.arange(40), 50)
CLUSTERS = QUERIES // 10
MARGINS = RANDOM.gamma(1.5, 2.0, len(QUERIES))  # most margins are small


def test_the_queries_of_a_batch_share_a_cluster_and_none_comes_twice() -> None:
    for batch in TASBalanced(QUERIES, CLUSTERS, MARGINS)(range(len(QUERIES)), 8, True):
        assert len(set(CLUSTERS[batch])) == 1
        assert len(set(QUERIES[batch])) == len(batch) == 8


def test_a_small_cluster_is_topped_up_from_others() -> None:
    for batch in TASBalanced(QUERIES, CLUSTERS, MARGINS)(range(len(QUERIES)), 16, True):
        counts = np.bincount(CLUSTERS[batch])
        assert sorted(counts[counts > 0].tolist()) == [6, 10]


def test_bins_of_margins_are_drawn_evenly_where_pairs_are_not() -> None:
    margins = np.concatenate([np.full(400, 0.05), np.linspace(0.1, 1, 100)])  # one bin holds four fifths
    sampler = TASBalanced(np.zeros(500), np.zeros(500), margins)(range(500), 1, True)
    sampler.set_epoch(1)
    draws = [batch[0] for epoch in range(3000) for batch in at(sampler, epoch)]
    low, high = margins.min(), margins.max()
    places = np.minimum((10 * (margins[draws] - low) / (high - low)).astype(int), 9)
    assert chisquare(np.bincount(places, minlength=10)).pvalue > 0.001
    plain = TASBalanced(np.zeros(500), np.zeros(500))(range(500), 1, True)
    even = [batch[0] for epoch in range(3000) for batch in at(plain, epoch)]
    assert (margins[even] == 0.05).mean() == pytest.approx(0.8, abs=0.03)


def at(sampler: Batches | GroupedBatches, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_equal_margins_are_one_bin_and_single_pairs_are_left_out() -> None:
    sampler = TASBalanced([1, 1, 2, 3, 3], [0, 0, 0, 0, 0], [1.0, 1.0, 5.0, 2.0, 3.0])
    assert set(sampler.pairs) == {1, 3}
    assert sampler.single == [2]
    assert [own.tolist() for own in sampler.pairs[1]] == [[0, 1]]
    with pytest.raises(ContractError, match="no query has two pairs"):
        TASBalanced([1, 2], [0, 0])


def test_a_seed_and_an_epoch_give_the_same_batches_again() -> None:
    for make in (TASBalanced(QUERIES, CLUSTERS, MARGINS), PairedViews(QUERIES // 2)):
        first, second = make(range(2000), 200, False, seed=3), make(range(2000), 200, False, seed=3)
        assert at(first, 1) == at(second, 1)
        assert at(first, 1) != at(second, 2)
        assert at(first, 1) != at(make(range(2000), 200, False, seed=4), 1)
        assert len(first) == len(at(first, 1))


def test_sister_rows_are_always_in_one_batch_and_every_row_comes_once() -> None:
    groups = np.arange(30) // 2
    batches = list(PairedViews(groups)(range(30), 8, False))
    assert sorted(row for batch in batches for row in batch) == list(range(30))
    assert all(len(batch) <= 8 for batch in batches)
    for batch in batches:
        assert all(count == 2 for count in np.bincount(groups[batch]) if count)


def test_groups_that_do_not_fit_and_data_sets_of_another_size_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)does not fit into a batch.*3 rows.*<= 2"):
        PairedViews([0, 0, 0])(range(3), 2, False)
    with pytest.raises(ContractError, match=r"(?s)another data set.*5 rows.*3 rows"):
        PairedViews([0, 0, 1])(range(5), 2, False)
    with pytest.raises(ContractError, match=r"(?s)differ in length.*2 queries, 1 clusters"):
        TASBalanced([1, 1], [0])


def test_even_margins_draw_rare_ones_far_more_often_than_even_pairs_do() -> None:
    margins = np.random.default_rng(1).gamma(1.5, 2.0, 2000)
    wide = margins > np.quantile(margins, 0.99)
    shares = []
    for given in (margins, None):
        sampler = TASBalanced(np.zeros(2000), np.zeros(2000), given)(range(2000), 1, True)
        shares.append(np.mean([wide[at(sampler, epoch)[0][0]] for epoch in range(2000)]))
    assert shares[0] > 10 * max(shares[1], 0.005)


def test_clusters_come_equally_often_however_large_they_are() -> None:
    queries = np.repeat(np.arange(40), 2)
    clusters = np.where(queries < 4, 0, 1)  # four queries and thirty-six
    sampler = TASBalanced(queries, clusters)(range(80), 4, True)
    first = [clusters[batch[0]] for epoch in range(200) for batch in at(sampler, epoch)]
    assert chisquare(np.bincount(first)).pvalue > 0.001
