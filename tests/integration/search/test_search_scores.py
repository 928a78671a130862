"""Every score that a search returns, against the same score computed without Qdrant; on each store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

from diptych.collection.collection import Collection
from diptych.search import Dbsf, Diversify, Linear, Pipeline, Rerank, Rescore, Retrieve, Rrf, search
from diptych.testing import FakeReranker
from diptych.types import Document, Hit, SparseVector

Scores: TypeAlias = dict[str, float]
PAIR = Retrieve("dense", 30) + Retrieve("lexical", 40)


def assert_ranked(hits: Sequence[Hit], expected: Mapping[str, float]) -> None:
    """Each hit has its expected score, and no document that scores higher is missing; ties may swap."""
    best = sorted(expected.values(), reverse=True)[: len(hits)]
    assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-5, abs=3e-5)
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=1e-5, abs=3e-5)
    assert len({hit.id for hit in hits}) == len(hits)


def top(scores: Mapping[str, float], count: int) -> list[str]:
    return sorted(scores, key=lambda identifier: -scores[identifier])[:count]


class Truth:
    """Scores of every document, by the formulas."""

    def __init__(self, collection: Collection, documents: Sequence[Document]) -> None:
        self.documents = documents
        self.slots = collection.handle.slots
        self.texts = [document.text for document in self.documents]
        self._vectors: dict[str, list[Any]] = {}

    def dense(self, query: str, slot: str = "dense") -> Scores:
        """Cosines."""
        q, d = self._encoded(slot, query)
        return self._by_id([float(q @ row / np.linalg.norm(q) / np.linalg.norm(row)) for row in d])

    def lexical(self, query: str, slot: str = "lexical") -> Scores:
        """Sums over common terms of both weights x ln((N - n + .5) / (n + .5) + 1); documents without one are out."""
        q, d = self._encoded(slot, query)
        rows = [weights(vector) for vector in d]
        counts = {term: sum(term in row for row in rows) for term in weights(q)}
        idf = {term: np.log((len(rows) - n + 0.5) / (n + 0.5) + 1) for term, n in counts.items()}
        sums = [sum(w * row[t] * idf[t] for t, w in weights(q).items() if t in row) for row in rows]
        return {identifier: score for identifier, score in self._by_id(sums).items() if score > 0}

    def late(self, query: str) -> Scores:
        """MaxSim: for each query token the best document token's cosine, added up."""
        q, d = self._encoded("late", query)
        return self._by_id([float((q @ tokens.T).max(axis=1).sum()) for tokens in d])

    def _encoded(self, slot: str, query: str) -> tuple[Any, list[Any]]:
        if slot not in self._vectors:
            self._vectors[slot] = list(self.slots[slot].encode("document", self.texts))
        return self.slots[slot].encode("query", [query])[0], self._vectors[slot]

    def _by_id(self, scores: list[float]) -> Scores:
        return {document.id: score for document, score in zip(self.documents, scores, strict=True)}


def weights(vector: SparseVector) -> dict[int, float]:
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


@pytest.fixture(scope="session")
def truth(filled: Collection, documents: list[Document]) -> Truth:
    return Truth(filled, documents)


def run(collection: Collection, query: str, pipeline: Pipeline | Retrieve, *, limit: int = 20) -> list[Hit]:
    return search(collection.handle, [query], pipeline=pipeline, limit=limit)[0]


@pytest.mark.parametrize("slot", ["dense", "lexical", "late"])
def test_a_slot_alone_scores_as_brute_force_does(
    filled: Collection, truth: Truth, queries: list[str], slot: str
) -> None:
    for query in queries:
        expected: Scores = getattr(truth, slot)(query)
        hits = run(filled, query, Retrieve(slot, 5), limit=100)  # of a slot alone, more than its candidates
        assert len(hits) == len(expected)
        assert_ranked(hits, expected)


def rrf(truth: Truth, query: str, k: int, weights: Mapping[str, float]) -> Scores:
    """The paper's formula, ranks from 1, over the first 30 dense and 40 lexical candidates."""
    fused: Scores = {}
    for slot, count in (("dense", 30), ("lexical", 40)):
        for rank, identifier in enumerate(top(getattr(truth, slot)(query), count), 1):
            fused[identifier] = fused.get(identifier, 0.0) + weights.get(slot, 1.0) / (k + rank)
    return fused


@pytest.mark.parametrize("k", [1, 60])
@pytest.mark.parametrize("weights", [{}, {"dense": 2.0}, {"dense": 0.3, "lexical": 1.7}, {"lexical": 0.0}], ids=str)
def test_rrf_is_the_papers_sum_of_weight_over_k_plus_rank(
    filled: Collection, truth: Truth, queries: list[str], k: int, weights: dict[str, float]
) -> None:
    for query in queries:
        expected = rrf(truth, query, k, weights)
        hits = run(filled, query, PAIR >> Rrf(k, weights))
        assert_ranked(hits, expected)
        assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=1.1e-5)


def normalised(scores: Scores, how: str) -> tuple[Scores, float]:
    """Each score as `how` maps it, and what a document outside counts."""
    values = np.array(list(scores.values()))
    if how == "dbsf":
        mapped = (values - (values.mean() - 3 * values.std(ddof=1))) / (6 * values.std(ddof=1))
    elif how == "fixed":
        mapped = (values - values.mean()) / values.std(ddof=1)
        return dict(zip(scores, mapped.tolist(), strict=True)), -0.8
    elif how == "minmax":
        mapped = (values - values.min()) / (values.max() - values.min())
    else:
        mapped = (values - values.mean()) / values.std()
    return dict(zip(scores, mapped.tolist(), strict=True)), float(mapped.min()) if how == "zscore" else 0.0


def by_scores(truth: Truth, query: str, how: str, weights: Mapping[str, float]) -> Scores:
    fused: Scores = {}
    parts = []
    for slot, count in (("dense", 30), ("lexical", 40)):
        found: Scores = getattr(truth, slot)(query)
        mapped, missing = normalised({identifier: found[identifier] for identifier in top(found, count)}, how)
        parts.append((weights.get(slot, 1.0), mapped, missing))
    for identifier in {identifier for _, mapped, _ in parts for identifier in mapped}:
        fused[identifier] = sum(weight * mapped.get(identifier, missing) for weight, mapped, missing in parts)
    return fused


@pytest.mark.parametrize(
    ("fusion", "how"),
    [
        (Dbsf(), "dbsf"),
        (Linear("minmax"), "minmax"),
        (Linear("minmax", {"dense": 0.2}), "minmax"),
        (Linear("zscore"), "zscore"),
        (Linear("zscore", {"lexical": 3.0}), "zscore"),
        (Linear("zscore", missing=-0.8), "fixed"),
        (Linear("zscore", {"dense": 0.3}, missing=-0.8), "fixed"),
    ],
    ids=str,
)
def test_fusions_of_scores_are_their_formulas(
    filled: Collection, truth: Truth, queries: list[str], fusion: Dbsf | Linear, how: str
) -> None:
    weights = getattr(fusion, "weights", {})
    for query in queries:
        assert_ranked(run(filled, query, PAIR >> fusion), by_scores(truth, query, how, weights))


def recorded(calls: list[str], name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which also notes its name at each call."""

    def call(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return method(*args, **options)

    return call


def test_a_linear_fusion_with_missing_is_one_request_and_the_hosts_formula(
    filled: Collection, queries: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion, client = Linear("zscore", {"dense": 0.7}, missing=-1.2), filled.handle.client
    calls: list[str] = []
    for name in ("query_batch_points", "retrieve"):
        monkeypatch.setattr(client, name, recorded(calls, name, getattr(client, name)))
    in_qdrant = run(filled, queries[0], PAIR >> fusion)
    assert calls == ["query_batch_points"]
    monkeypatch.setattr("diptych.search.retrieve._has_shards", lambda view: True)
    in_host = run(filled, queries[0], PAIR >> fusion)
    assert [hit.id for hit in in_host] == [hit.id for hit in in_qdrant]
    assert [hit.score for hit in in_host] == pytest.approx([hit.score for hit in in_qdrant], abs=1e-5)


@pytest.mark.parametrize("fusion", [Rrf(), Rrf(weights={"dense": 2.0}), Linear()], ids=str)
def test_rescoring_orders_the_best_of_the_fusion_by_the_other_slot(
    filled: Collection, truth: Truth, queries: list[str], fusion: Rrf | Linear
) -> None:
    for query in queries:
        weights = fusion.weights
        fused = (
            rrf(truth, query, 60, weights) if isinstance(fusion, Rrf) else by_scores(truth, query, "minmax", weights)
        )
        late = truth.late(query)
        expected = {identifier: late[identifier] for identifier in top(fused, 15)}
        hits = run(filled, query, PAIR >> fusion >> Rescore("late", 15), limit=15)
        assert_ranked(hits, expected)
        assert {hit.id for hit in hits} == set(expected)


def test_rescoring_one_slot_reads_its_candidates_and_no_more(
    filled: Collection, truth: Truth, queries: list[str]
) -> None:
    for query in queries:
        hits = run(filled, query, Retrieve("lexical", 40) >> Rescore("dense", 8), limit=8)
        dense = truth.dense(query)
        assert_ranked(hits, {identifier: dense[identifier] for identifier in top(truth.lexical(query), 8)})


def mmr(truth: Truth, query: str, relevance: float, candidates: Sequence[str], count: int) -> list[str]:
    """Carbonell and Goldstein's greedy choice."""
    encoded = truth.slots["dense"].encode("document", truth.texts)
    vectors: dict[str, Any] = {d.id: v for d, v in zip(truth.documents, encoded, strict=True)}
    likeness, chosen, pending = truth.dense(query), list[str](), list(candidates)
    while len(chosen) < count:
        best = max(
            pending,
            key=lambda one: (
                relevance * likeness[one]
                - (1 - relevance) * max((float(vectors[one] @ vectors[other]) for other in chosen), default=0.0)
            ),
        )
        chosen.append(best)
        pending.remove(best)
    return chosen


@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_mmr_takes_relevance_as_the_papers_lambda(
    filled: Collection, truth: Truth, queries: list[str], relevance: float
) -> None:
    for query in queries:
        dense = truth.dense(query)
        hits = run(filled, query, Retrieve("dense", 30) >> Diversify("dense", relevance, 20), limit=8)
        assert [hit.id for hit in hits] == mmr(truth, query, relevance, top(dense, 20), 8)
        assert [hit.score for hit in hits] == pytest.approx([dense[hit.id] for hit in hits], abs=1e-5)


def test_mmr_chooses_among_what_the_fusion_passes_on(filled: Collection, truth: Truth, queries: list[str]) -> None:
    for query in queries:
        dense, fused = truth.dense(query), rrf(truth, query, 60, {})
        chosen = sorted(top(fused, 20), key=lambda identifier: -dense[identifier])
        hits = run(filled, query, PAIR >> Rrf() >> Diversify("dense", 0.6, 20), limit=6)
        assert [hit.id for hit in hits] == mmr(truth, query, 0.6, chosen, 6)


def test_a_page_of_a_diversified_answer_continues_the_choice(
    filled: Collection, truth: Truth, queries: list[str]
) -> None:
    pipeline = Retrieve("dense", 30) >> Diversify("dense", 0.5, 20)
    (hits,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=4, offset=3)
    assert [hit.id for hit in hits] == mmr(truth, queries[0], 0.5, top(truth.dense(queries[0]), 20), 7)[3:]


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_weighed_reranker_shares_the_order_with_the_fusion(
    filled: Collection, truth: Truth, queries: list[str], weight: float
) -> None:
    reranker = FakeReranker()
    for query in queries:
        fused = rrf(truth, query, 60, {})
        hits = run(filled, query, PAIR >> Rrf() >> Rerank(reranker, 15, weight=weight), limit=15)
        own = {hit.id: hit.stages["FakeReranker"] for hit in hits}
        assert set(own) == set(top(fused, 15))
        if weight == 1:
            assert_ranked(hits, own)
            continue
        parts = [_scaled(own), _scaled({name: fused[name] for name in own})]
        assert_ranked(hits, {name: weight * parts[0][name] + (1 - weight) * parts[1][name] for name in own})


def _scaled(scores: Scores) -> Scores:
    low, high = min(scores.values()), max(scores.values())
    return {name: (score - low) / (high - low) if high > low else 1.0 for name, score in scores.items()}
