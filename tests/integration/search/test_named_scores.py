"""The scores of named documents are those that a search of everything gives."""

from __future__ import annotations

import pytest

from diptych import Collection, Document
from diptych.errors import SearchError
from diptych.search import Retrieve

QUERIES = ["word1 word2 word3", "word9", "word4 word10"]


@pytest.mark.parametrize("slot", ["dense", "lexical", "late"])
def test_scores_of_named_documents_are_those_of_a_search(
    filled: Collection, documents: list[Document], slot: str
) -> None:
    ids = [[document.id for document in documents[n::7]] for n in range(3)]
    found = filled.scores(QUERIES, ids, slot=slot)
    everything = filled.search_batch(QUERIES, pipeline=Retrieve(slot), limit=100)
    for own, named, hits in zip(found, ids, everything, strict=True):
        assert own == pytest.approx({hit.id: hit.score for hit in hits if hit.id in named}, abs=1e-5)
        assert own


def test_documents_that_are_not_there_and_queries_without_documents_have_no_scores(filled: Collection) -> None:
    assert filled.scores(QUERIES, [["gone"], [], ["d1", "d1", "gone"]], slot="dense")[:2] == [{}, {}]
    assert list(filled.scores(["word1"], [["d1", "d1", "gone"]], slot="dense")[0]) == ["d1"]
    assert filled.scores([], [], slot="dense") == []


def test_each_query_needs_its_list(filled: Collection) -> None:
    with pytest.raises(
        SearchError, match=r"(?s)the number of id lists is not the number of queries.*3 queries, 1 lists"
    ):
        filled.scores(QUERIES, [["d1"]], slot="dense")
    with pytest.raises(SearchError, match=r"(?s)'gone'.*dense, lexical, late"):
        filled.scores(["word1"], [["d1"]], slot="gone")
