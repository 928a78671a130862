"""The relevance mask against a brute-force join."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.relevance import Candidates, Relevance

PAIRS = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30)
IDS = st.lists(st.lists(st.integers(-1, 11), min_size=4, max_size=4), min_size=1, max_size=6)


def brute(pairs: set[tuple[int, int]], labels: list[list[int]], row: int, column: int) -> str:
    """What column `column` is to row `row`: p, n, or - where it does not count."""
    rows = len(labels)
    documents = [labels[place % rows][1 + place // rows] for place in range(3 * rows)]
    document, query = documents[column], labels[row][0]
    if document >= 0 and document in documents[:column]:
        return "-"
    asking = [row, *(other for other in range(rows) if query >= 0 and labels[other][0] == query)]
    positive = any(document == documents[other] if document >= 0 else column == other for other in asking)
    return "p" if positive or (query, document) in pairs else "n"


@settings(deadline=None)
@given(pairs=PAIRS, labels=IDS)
def test_the_mask_is_the_join_of_ids_and_judgements(pairs: set[tuple[int, int]], labels: list[list[int]]) -> None:
    found = Candidates.of(len(labels), 3, torch.tensor(labels), Relevance(pairs))
    for row in range(len(labels)):
        for column in range(3 * len(labels)):
            wanted = brute(pairs, labels, row, column)
            assert bool(found.positive[row, column]) == (wanted == "p")
            assert bool(found.negative[row, column]) == (wanted == "n")
        assert found.positive[row, found.own_column[row]]


@settings(deadline=None)
@given(pairs=PAIRS, labels=IDS)
def test_a_document_of_a_row_is_relevant_to_it_wherever_its_first_column_is(
    pairs: set[tuple[int, int]], labels: list[list[int]]
) -> None:
    found = Candidates.of(len(labels), 3, torch.tensor(labels), Relevance(pairs)).of_rows(3)
    for row, (query, positive, *negatives) in enumerate(labels):
        same = [own[1] for own in labels if own[0] == query >= 0] + [positive]
        known = [document >= 0 and (document in same or (query, document) in pairs) for document in negatives]
        assert found[row].tolist() == [True, *known]


def test_rows_of_one_query_are_not_each_others_negatives_where_nothing_is_judged() -> None:
    found = Candidates.of(3, 2, torch.tensor([[5, 0, 7], [5, 1, 8], [6, 2, 9]]), Relevance())
    assert found.positive.int().tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert torch.equal(found.negative, ~found.positive)
    assert found.sisters.int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    unknown = Candidates.of(2, 1, torch.tensor([[-1, 0], [-1, 1]]), Relevance())
    assert torch.equal(unknown.positive, torch.eye(2) > 0)
    blank = Candidates.of(2, 1, torch.tensor([[5, -1], [5, -1]]), Relevance())
    assert blank.positive.all()


def test_without_ids_each_row_has_its_own_positive_alone() -> None:
    found = Candidates.of(3, 2, None, Relevance())
    eye = torch.eye(3, dtype=torch.bool)
    assert torch.equal(found.positive, torch.cat([eye, torch.zeros_like(eye)], 1))
    assert torch.equal(found.negative, ~found.positive)


def test_a_document_that_is_there_twice_is_one_column() -> None:
    found = Candidates.of(2, 1, torch.tensor([[0, 7], [1, 7]]), Relevance())
    assert found.positive.tolist() == [[True, False], [True, False]]
    assert not found.negative.any()
    assert found.own_column.tolist() == [0, 0]


def test_the_margin_drops_exactly_what_is_above_it_and_never_a_positive() -> None:
    similarity = torch.tensor([[0.5, 0.59, 0.61, 0.9]])
    found = Candidates.of(1, 4, None, Relevance()).margin_filtered(similarity, 0.1)
    assert found.negative.tolist() == [[False, True, False, False]]
    assert found.positive.tolist() == [[True, False, False, False]]


def test_judgements_by_name_become_numbers() -> None:
    qrels = {"q": {"a": 1.0, "b": 0.0, "gone": 1.0}, "other": {"a": 1.0}}
    relevance = Relevance.of(qrels, {"q": 0}, {"a": 0, "b": 1})
    assert relevance(torch.tensor([0]), torch.tensor([0, 1])).tolist() == [[True, False]]


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)not ids of the rows.*\[2, 4\].*\[2, 3\]"):
        Candidates.of(2, 2, torch.zeros(2, 4, dtype=torch.int64), Relevance())
    with pytest.raises(ContractError, match="unknown ids"):
        Relevance([(-1, 2)])


def sisters(labels: list[list[int]]) -> Tensor:
    return Candidates.of(len(labels), 1, torch.tensor(labels), Relevance([(0, 1)])).sisters


def test_rows_whose_positive_is_relevant_to_another_query_are_sisters() -> None:
    assert sisters([[0, 0], [1, 1], [2, 2]]).tolist() == [
        [True, True, False],
        [False, True, False],
        [False, False, True],
    ]
