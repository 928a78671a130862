"""Batches of labelled and unlabelled rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from diptych.errors import ContractError
from diptych_experimental.tas_balanced import MixedBatches

FEW = np.arange(40) < 6  # six labelled rows of forty


@pytest.mark.parametrize(("share", "labelled"), [(0.5, 4), (0.25, 2), (0.01, 1), (0.99, 6)])
def test_every_batch_has_the_share_of_labelled_rows_that_there_are(share: float, labelled: int) -> None:
    for batch in MixedBatches(FEW, share=share)(range(40), 8, False, seed=3):
        assert sum(FEW[batch]) == labelled
        assert len(batch) == 8


def test_no_row_comes_twice_in_a_batch_and_all_come_in_time() -> None:
    sampler = MixedBatches(FEW)(range(40), 8, False, seed=3)
    seen: Counter[int] = Counter()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        for batch in sampler:
            assert len({*batch}) == len(batch)
            seen.update(batch)
    assert {*seen} == {*range(40)}


def test_an_epoch_is_as_long_as_the_larger_part_takes() -> None:
    assert len(MixedBatches(FEW)(range(40), 8, False)) == 9  # 34 unlabelled rows, four a batch
    assert len(list(MixedBatches(FEW)(range(40), 8, False))) == 9
    assert len(MixedBatches(~FEW)(range(40), 8, False)) == 9


def test_seed_and_epoch_give_the_same_batches_again_and_others_give_others() -> None:
    def batches(seed: int, epoch: int) -> list[list[int]]:
        sampler = MixedBatches(FEW)(range(40), 8, False, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(1, 2) == batches(1, 2)
    assert batches(1, 2) != batches(1, 3)
    assert batches(1, 2) != batches(2, 2)


def test_a_part_that_is_empty_and_another_data_set_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)mixed batches need rows of both kinds.*0 labelled, 4 unlabelled"):
        MixedBatches([False] * 4)
    with pytest.raises(ContractError, match=r"(?s)made for another data set.*41 rows.*40 rows"):
        MixedBatches(FEW)(range(41), 8, False)
