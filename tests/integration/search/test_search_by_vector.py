"""A vector that the caller made finds what its text finds."""

from __future__ import annotations

import numpy as np
import pytest

from diptych import Collection, SparseVector
from diptych.errors import SearchError
from diptych.search import Diversify, Rerank, Retrieve

QUERY = "word3 word5 word8"


@pytest.mark.parametrize("slot", ["dense", "lexical", "late"])
def test_the_vector_of_a_query_finds_what_the_query_finds(filled: Collection, slot: str) -> None:
    (vector,) = filled.encoders[slot].encode_query([QUERY])
    found = filled.search_by_vector(vector, Retrieve(slot), limit=10, offset=2)
    wanted = filled.search(QUERY, pipeline=Retrieve(slot), limit=10, offset=2)
    assert [hit.id for hit in found] == [hit.id for hit in wanted]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
    assert found[0].document == wanted[0].document


def test_diversity_goes_with_it(filled: Collection) -> None:
    (vector,) = filled.encoders["dense"].encode_query([QUERY])
    stages = Retrieve("dense", 50) >> Diversify("dense", relevance=0.3, candidates=50)
    found = filled.search_by_vector(vector, stages, limit=10)
    assert [hit.id for hit in found] == [hit.id for hit in filled.search(QUERY, pipeline=stages, limit=10)]


def test_what_does_not_fit_the_slot_is_said(filled: Collection) -> None:
    dimension = filled.encoders["dense"].dimension
    with pytest.raises(SearchError, match=rf"(?s)does not fit the slot.*\[3\].*\[{dimension}\]"):
        filled.search_by_vector([1.0, 2.0, 3.0], Retrieve("dense"))
    with pytest.raises(SearchError, match="NaN"):
        filled.search_by_vector(np.full(dimension, np.nan), Retrieve("dense"))
    with pytest.raises(SearchError, match="SparseVector"):
        filled.search_by_vector(np.zeros(dimension), Retrieve("lexical"))
    with pytest.raises(SearchError, match="numbers"):
        filled.search_by_vector(SparseVector.from_mapping({1: 1.0}), Retrieve("dense"))
    with pytest.raises(SearchError, match="one slot"):
        filled.search_by_vector(np.zeros(dimension), Retrieve("dense") >> Rerank("fake-reranker", 10))
