"""In a batch without duplicates no row's document is another row's, or relevant to another row's query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import ContractError
from diptych_training.rows import NoDuplicates


def rows(
    seed: int, count: int = 60, documents: int = 40, queries: int = 25
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    random = np.random.default_rng(seed)
    return np.concatenate([random.integers(queries, size=(count, 1)), random.integers(documents, size=(count, 3))], 1)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 16))
def test_no_two_rows_share_a_document_or_have_ones_relevant_to_the_other(seed: int, size: int) -> None:
    labels = rows(seed)
    known = {query: set(np.random.default_rng((seed, query)).integers(40, size=2).tolist()) for query in range(25)}
    relevant = {query: own | {int(row[1]) for row in labels if row[0] == query} for query, own in known.items()}
    batches = list(NoDuplicates(labels, known)(range(60), size, False, seed=seed))
    assert sorted(row for batch in batches for row in batch) == list(range(60))
    for batch in batches:
        assert 1 <= len(batch) <= size
        for one in batch:
            for other in batch:
                if one != other:
                    assert not set(labels[one, 1:]) & set(labels[other, 1:])
                    assert not relevant[int(labels[one, 0])] & set(labels[other, 1:].tolist())


def test_batches_are_full_where_rows_have_nothing_in_common() -> None:
    labels = [[n, n, 100 + n] for n in range(50)]
    sampler = NoDuplicates(labels)(range(50), 16, False, seed=0)
    assert [len(batch) for batch in sampler] == [16, 16, 16, 2]
    assert len(sampler) == 4
    dropped = NoDuplicates(labels)(range(50), 16, True, seed=0)
    assert [len(batch) for batch in dropped] == [16, 16, 16]
    assert len(dropped) == 3


def test_rows_of_one_query_are_never_together_and_unknown_ids_meet_anybody() -> None:
    for batch in NoDuplicates([[n // 2, n] for n in range(20)])(range(20), 8, False, seed=0):
        assert len({row // 2 for row in batch}) == len(batch)
    [whole] = NoDuplicates([[-1, -1]] * 5)(range(5), 8, False, seed=0)
    assert sorted(whole) == [0, 1, 2, 3, 4]


def test_a_seed_and_an_epoch_give_the_same_batches_again() -> None:
    sampler, again = (NoDuplicates(rows(1))(range(60), 8, False, seed=3) for _ in range(2))
    first = list(sampler)
    assert list(sampler) == first == list(again)
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(NoDuplicates(rows(1))(range(60), 8, False, seed=4)) != first


def test_labels_without_documents_and_other_data_sets_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)not ids of rows.*got: \[3\].*\[rows, 2 \+ H\]"):
        NoDuplicates([1, 2, 3])
    with pytest.raises(ContractError, match=r"(?s)another data set.*7 rows.*60 rows"):
        NoDuplicates(rows(0))(range(7), 4, False)
