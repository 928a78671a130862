"""A reranker that explores finds documents that were not candidates, within its budget, in the order of its scores."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Registry
from diptych.config import parse_config
from diptych.errors import CollectionError, SearchError
from diptych.metadata.store import raw_metadata, update_metadata
from diptych.protocols import Pair
from diptych.search import Pipeline, Retrieve
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.types import Floats
from diptych_experimental.anncur import AnchorScores, choose_anchors, explore

TASTE = np.random.default_rng(0).normal(size=(400, 4))  # of each number that a text can name
REGISTRY = Registry(fakes_plugin, installed=False)


class Tastes:
    """A reranker of four hidden tastes: texts name numbers, whose tastes are multiplied. Keeps its pairs."""

    max_length: int | None = None

    def __init__(self, *, independent: bool = True) -> None:
        self.independent = independent
        self.pairs: list[Pair] = []

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.pairs += pairs
        return np.array([_score(*pair) for pair in pairs], np.float32)


def _score(query: str, document: str) -> float:
    one, other = (TASTE[int(found[1]) if (found := re.fullmatch(r"n(\d+)", t)) else 0] for t in (query, document))
    return float(one @ other + 0.2 * other.sum())


DOCUMENTS = [Document(f"d{n}", f"n{n}") for n in range(300)]
QUERY = "n399"
BEST = sorted((f"d{n}" for n in range(300)), key=lambda name: -_score(QUERY, f"n{name[1:]}"))
FEW, NONE = Pipeline((Retrieve("dense", 10),)), Pipeline((Retrieve("lexical", 10),))  # no document names the query
CONFIG: dict[str, Any] = {
    "store": "memory:",
    "collection": "c",
    "slots": {"dense": {"adapter": "fake-dense", "dimension": 8}, "lexical": {"adapter": "fake-sparse"}},
    "search": {"retrieve": {"dense": 10}},
}


@pytest.fixture(scope="module")
def collection() -> Iterator[Collection]:
    with Collection.open(CONFIG, registry=REGISTRY) as opened:
        opened.populate(DOCUMENTS)
        yield opened


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> AnchorScores:
    path = tmp_path_factory.mktemp("anchors") / "scores.npz"
    AnchorScores.of(Tastes(), DOCUMENTS, [f"n{n}" for n in range(300, 320)]).save(path)
    return AnchorScores.load(path)


def test_documents_are_found_that_were_no_candidates(collection: Collection, scores: AnchorScores) -> None:
    candidates = {hit.id for hit in collection.search(QUERY, limit=10)}
    assert len(candidates & {*BEST[:10]}) < 3
    reranker = Tastes()
    found = explore(collection, QUERY, reranker, scores, budget=40)
    assert [hit.id for hit in found.hits[:10]] == BEST[:10]
    assert len(reranker.pairs) == len(set(reranker.pairs)) == len(found.hits) == 40
    first = {hit.id for hit in collection.search(QUERY, limit=40)}
    assert (found.rounds, found.new) == ((10, 10, 10, 10), len({hit.id for hit in found.hits} - first))
    np.testing.assert_allclose([hit.score for hit in found.hits], [_score(QUERY, h.document.text) for h in found.hits])
    assert {hit.stages["explored"] for hit in found.hits} == {0.0, 1.0, 2.0, 3.0}


def test_a_budget_beyond_the_collection_scores_everything(collection: Collection, scores: AnchorScores) -> None:
    assert [hit.id for hit in explore(collection, QUERY, Tastes(), scores, budget=1000).hits] == BEST


def test_the_budget_is_spent_on_candidates_where_documents_lack_anchor_scores(
    collection: Collection, scores: AnchorScores
) -> None:
    few, many = AnchorScores(scores.ids[:3], scores.vectors[:3]), Pipeline((Retrieve("dense", 100),))
    assert len(explore(collection, QUERY, Tastes(), few, first=many, budget=40).hits) == 40
    gone = AnchorScores(tuple(f"gone{n}" for n in range(300)), scores.vectors)
    assert {hit.id for hit in explore(collection, QUERY, Tastes(), gone, first=FEW, budget=40).hits} <= {
        hit.id for hit in collection.search(QUERY, limit=10)
    }, "documents that were deleted are not found"


def test_anchors_are_titles_or_first_words_and_do_not_depend_on_the_order() -> None:
    documents = [Document(str(n), f"word{n} " * 30, title=f"Title  {n}" if n % 2 else "") for n in range(40)]
    chosen = choose_anchors(documents, 10)
    assert chosen == choose_anchors([*reversed(documents), *documents], 10) != choose_anchors(documents, 10, seed=1)
    assert len(chosen) == 10
    assert {*chosen} <= {f"Title {n}" if n % 2 else " ".join([f"word{n}"] * 16) for n in range(40)}


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"rounds": 5, "budget": 4}, "5 rounds, budget 4"),
        ({"rounds": 1}, "1 rounds, budget 100"),
        ({"reranker": Tastes(independent=False)}, "independent = False"),
    ],
)
def test_what_cannot_explore_is_an_error(
    collection: Collection, scores: AnchorScores, options: dict[str, Any], got: str
) -> None:
    with pytest.raises(SearchError) as refused:
        explore(collection, QUERY, options.pop("reranker", Tastes()), scores, **options)
    assert refused.value.got == got
    with pytest.raises(SearchError):
        AnchorScores.of(Tastes(), DOCUMENTS, ["n1"])


def test_a_collection_with_anchors_of_an_earlier_release_opens_searches_and_loses_them() -> None:
    """As releases up to 0.4.0 stored them: a dense slot of a reranker's scores, and a stage that explores by it."""
    with Collection.open(CONFIG, registry=REGISTRY) as opened:
        opened.populate(DOCUMENTS[:20])
        new = parse_config({**CONFIG, "slots": {**CONFIG["slots"], "scores": {"adapter": "fake-dense"}}})
        assert opened.apply(new, ApplyOptions(gate=False)).outcome == "cut over"
        client, raw = opened.client, raw_metadata(opened.client, "c")
        scores = {"adapter": "fake-reranker", "options": {"anchors": {"texts": "anchors.txt"}}}
        raw["diptych"]["live"]["slots"]["scores"] |= scores
        stage = {"adapter": "fake-reranker", "candidates": 5, "explore": {"anchors": "scores", "rounds": 4}}
        other = {**stage, "explore": None}
        update_metadata(client, "c", {**raw, "diptych_search": {**raw["diptych_search"], "rerank": [stage, other]}})
        with pytest.warns(UserWarning, match=r"`explore` of an earlier release"):
            later = Collection.open(client, "c", registry=REGISTRY)
        with warnings.catch_warnings(action="ignore"), later:
            assert len(later.search("n3", limit=5)) == 5
            with pytest.raises(CollectionError) as refused:
                later.populate([{"id": "new", "text": "n3"}])
            assert (refused.value.where, "diptych apply" in refused.value.do) == ("slot 'scores'", True)
            assert later.apply(parse_config(CONFIG), ApplyOptions(gate=False)).outcome == "cut over"
            assert later.populate([{"id": "new", "text": "n3"}]).new == 1
            later.finish()
        assert [slot.name for slot in later.info().slots] == ["dense", "lexical"]
