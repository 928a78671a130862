"""`Rescore` with a weight: the weighed sum of both scores, each scaled from 0 to 1 over the candidates."""

from __future__ import annotations

import numpy as np
import pytest

from diptych import Collection
from diptych.search import Dbsf, Linear, Pipeline, Rescore, Retrieve, Rrf

from .conftest import Open

SLOTS = {
    "dense": {"adapter": "fake-dense", "dimension": 16},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    "far": {"adapter": "fake-dense", "dimension": 24, "similarity": "euclidean"},
    "late": {"adapter": "fake-multivector"},
}
QUERY = "word1 word7 word9 other"
BOTH = Retrieve("dense", 40) + Retrieve("lexical", 40)
BEFORE = [Retrieve("dense", 40), Retrieve("far", 40), BOTH >> Dbsf(), BOTH >> Rrf(), BOTH >> Linear()]


@pytest.fixture(scope="module")
def collection(opened: Open) -> Collection:
    random = np.random.default_rng(4)
    texts = [" ".join(f"word{random.integers(0, 30)}" for _ in range(5 + n)) for n in range(40)]
    found = opened({"slots": SLOTS, "search": {"retrieve": {"dense": 40, "lexical": 40}}})
    found.populate([{"id": f"d{n}", "text": text, "part": n % 3} for n, text in enumerate(texts)])
    return found


def expected(collection: Collection, before: Pipeline | Retrieve, slot: str, weight: float) -> dict[str, float]:
    """By the formula, from the scores of both alone."""
    old = {hit.id: hit.score for hit in collection.search(QUERY, pipeline=before, limit=20)}
    (new,) = collection.scores([QUERY], [list(old)], slot=slot)
    scaled = [
        {name: (x - min(s.values())) / (max(s.values()) - min(s.values())) for name, x in s.items()} for s in (new, old)
    ]
    return {name: weight * scaled[0][name] + (1 - weight) * scaled[1][name] for name in old}


@pytest.mark.parametrize("before", BEFORE, ids=repr)
@pytest.mark.parametrize(("slot", "weight"), [("late", 0.3), ("late", 0.0), ("far", 0.7)])
def test_the_score_is_the_formula(
    collection: Collection, before: Pipeline | Retrieve, slot: str, weight: float
) -> None:
    pipeline = before >> Rescore(slot, 20, weight=weight)
    hits = collection.search(QUERY, pipeline=pipeline, limit=20)
    scores = expected(collection, before, slot, weight)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(scores, abs=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    (own,) = collection.scores([QUERY], [list(scores)], slot=slot)
    assert {hit.id: hit.stages[slot] for hit in hits} == pytest.approx(own, abs=1e-4)
    (first,) = collection.explain(QUERY, pipeline=pipeline, limit=1)
    assert first.document.id == hits[0].id
    assert first.score == pytest.approx(hits[0].score, abs=1e-4)
    assert first.stages[slot] == pytest.approx(own[hits[0].id], abs=1e-4)


def test_a_weight_of_one_is_the_new_scores_alone(collection: Collection) -> None:
    plain, weighed = (BOTH >> Dbsf() >> stage for stage in (Rescore("late", 20), Rescore("late", 20, weight=1.0)))
    assert plain == weighed
    alone = collection.search(QUERY, pipeline=plain, limit=20)
    nearly = collection.search(QUERY, pipeline=BOTH >> Dbsf() >> Rescore("late", 20, weight=1 - 1e-12), limit=20)
    assert [hit.stages["late"] for hit in nearly] == pytest.approx([hit.score for hit in alone], abs=1e-5)
