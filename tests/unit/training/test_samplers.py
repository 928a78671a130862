"""Batch samplers draw what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from diptych.errors import ContractError
from diptych_experimental.tas_balanced import MixedBatches, PairedViews, TASBalanced

QUERIES = np.repeat(np.arange(40), 50)
CLUSTERS = QUERIES // 10
MARGINS = np.random.default_rng(0).gamma(1.5, 2.0, len(QUERIES))  # most margins are small
FEW = np.arange(40) < 6  # six labelled rows of forty


def at(sampler: Any, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("size", "counts"), [(8, [8]), (16, [6, 10])])
def test_the_queries_of_a_batch_share_a_cluster_topped_up_from_others_and_none_comes_twice(
    size: int, counts: list[int]
) -> None:
    for batch in TASBalanced(QUERIES, CLUSTERS, MARGINS)(range(len(QUERIES)), size, True):
        found = np.bincount(CLUSTERS[batch])
        assert sorted(found[found > 0].tolist()) == counts
        assert len(set(QUERIES[batch])) == len(batch) == size


def test_bins_of_margins_are_drawn_evenly_where_pairs_are_not() -> None:
    margins = np.concatenate([np.full(400, 0.05), np.linspace(0.1, 1, 100)])  # one bin holds four fifths
    balanced, plain = (
        TASBalanced(np.zeros(500), np.zeros(500), given)(range(500), 1, True) for given in (margins, None)
    )
    draws, even = ([batch[0] for epoch in range(3000) for batch in at(own, epoch)] for own in (balanced, plain))
    places = np.minimum((10 * (margins[draws] - 0.05) / 0.95).astype(int), 9)
    assert chisquare(np.bincount(places, minlength=10)).pvalue > 0.001
    assert (margins[even] == 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_clusters_come_equally_often_however_large_they_are() -> None:
    queries = np.repeat(np.arange(40), 2)
    clusters = np.where(queries < 4, 0, 1)  # four queries and thirty-six
    sampler = TASBalanced(queries, clusters)(range(80), 4, True)
    first = [clusters[batch[0]] for epoch in range(200) for batch in at(sampler, epoch)]
    assert chisquare(np.bincount(first)).pvalue > 0.001


def test_equal_margins_are_one_bin_and_single_pairs_are_left_out() -> None:
    sampler = TASBalanced([1, 1, 2, 3, 3], [0, 0, 0, 0, 0], [1.0, 1.0, 5.0, 2.0, 3.0])
    assert ({*sampler.pairs}, sampler.single) == ({1, 3}, [2])
    assert [own.tolist() for own in sampler.pairs[1]] == [[0, 1]]


SAMPLERS: dict[str, tuple[Any, int, int]] = {
    "tas": (TASBalanced(QUERIES, CLUSTERS, MARGINS), 2000, 200),
    "pairs": (PairedViews(QUERIES // 2), 2000, 200),
    "mixed": (MixedBatches(FEW), 40, 8),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_and_an_epoch_give_the_same_batches_again(name: str) -> None:
    make, rows, size = SAMPLERS[name]
    first, second = make(range(rows), size, False, seed=3), make(range(rows), size, False, seed=3)
    assert at(first, 1) == at(second, 1) != at(second, 2)
    assert at(first, 1) != at(make(range(rows), size, False, seed=4), 1)
    assert len(first) == len(at(first, 1))


def test_sister_rows_are_always_in_one_batch_and_every_row_comes_once() -> None:
    groups = np.arange(30) // 2
    batches = list(PairedViews(groups)(range(30), 8, False))
    assert sorted(row for batch in batches for row in batch) == list(range(30))
    assert all(len(batch) <= 8 and {*Counter(groups[batch].tolist()).values()} == {2} for batch in batches)


@pytest.mark.parametrize(("share", "labelled"), [(0.5, 4), (0.25, 2), (0.01, 1), (0.99, 6)])
def test_every_batch_has_its_share_of_labelled_rows_and_no_row_twice(share: float, labelled: int) -> None:
    sampler = MixedBatches(FEW, share=share)(range(40), 8, False, seed=3)
    seen: set[int] = set()
    for epoch in range(30):
        for batch in at(sampler, epoch):
            assert (sum(FEW[batch]), len({*batch})) == (labelled, 8)
            seen |= {*batch}
    assert seen == {*range(40)}
    assert len(MixedBatches(FEW)(range(40), 8, False)) == 9  # 34 unlabelled rows, four a batch


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: TASBalanced([1, 2], [0, 0]), "no query has two pairs"),
    (lambda: TASBalanced([1, 1], [0]), r"(?s)differ in length.*2 queries, 1 clusters"),
    (lambda: PairedViews([0, 0, 0])(range(3), 2, False), r"(?s)does not fit into a batch.*3 rows.*<= 2"),
    (lambda: PairedViews([0, 0, 1])(range(5), 2, False), r"(?s)another data set.*5 rows.*3 rows"),
    (lambda: MixedBatches([False] * 4), r"(?s)rows of both kinds.*0 labelled, 4 unlabelled"),
]


@pytest.mark.parametrize(("ask", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_what_cannot_be_drawn_is_refused(ask: Callable[[], Any], what: str) -> None:
    with pytest.raises(ContractError, match=what):
        ask()
