"""The parts of an explanation add up to the scores that the search returned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych.collection.collection import Collection
from diptych.collection.explain import explain, explained_hits
from diptych.errors import SearchError
from diptych.registry import Registry
from diptych.search import (
    Boost,
    Dbsf,
    Diversify,
    EarlyExit,
    FieldBoost,
    Linear,
    NumberBoost,
    Pipeline,
    Rerank,
    Rescore,
    Retrieve,
    Rrf,
    search,
)
from diptych.testing import fakes_plugin
from diptych.types import Document
from named_server import require_feature

Open = Callable[..., Collection]
PAIR = Retrieve("dense", 30) + Retrieve("lexical", 40)
FUSED = [
    PAIR >> Rrf(),
    PAIR >> Rrf(k=5, weights={"dense": 2.0, "lexical": 0.5}),
    PAIR >> Dbsf(),
    PAIR >> Linear(),
    PAIR >> Linear("zscore", {"dense": 0.4}),
    PAIR >> Linear("zscore", {"dense": 0.4}, missing=-1.0),
]


def test_a_document_id_that_several_points_carry_is_said_and_hides_no_other_document(opened: Open) -> None:
    collection = opened({"slots": {"dense": {"adapter": "fake-dense", "dimension": 8}}})
    collection.populate([Document(f"d{n}", f"word{n} words") for n in range(3)])
    client, name = collection.client, collection.name
    records: Any = client.scroll(name, with_payload=True, with_vectors=True)[0]
    payloads = {record.payload["text"]: record.payload for record in records}
    vectors = {record.payload["text"]: np.array(record.vector["dense.1"]) for record in records}
    for n in (1, 2, 3):
        vector: Any = {"dense.1": (n * vectors["word0 words"] + vectors["word1 words"]).tolist()}
        client.upsert(name, [models.PointStruct(id=n, vector=vector, payload=payloads["word0 words"])])

    hits = collection.search("word0 words", limit=6)
    assert sorted(hit.id for hit in hits) == ["d0", "d0", "d0", "d0", "d1", "d2"]
    found = explained_hits(lambda ids: collection.explain("word0 words", ids=ids, limit=6), [hit.id for hit in hits])
    assert [why.document.id for why in found] == [hit.id for hit in hits], "none of them was deleted"
    best = next(hit for hit in hits if hit.id == "d0")
    for why in found:
        said = f"several points have this document's id; this explains point {best.point}"
        assert why.notes == ((said,) if why.document.id == "d0" else ())
    each = collection.explain("word0 words", limit=6)
    assert [why.rank for why in each] == [1, 2, 3, 4, 5, 6]
    assert [why.score for why in each] == pytest.approx([hit.score for hit in hits])
    points = [note.rpartition(" ")[2] for why in each for note in why.notes]
    assert points == [str(hit.point) for hit in hits if hit.id == "d0"]


CALLS = ("query_batch_points", "retrieve", "scroll")


@pytest.mark.parametrize("back", [None, 1, 2, 3], ids="written again after {} calls".format)
@pytest.mark.parametrize("at", range(8))
def test_a_hit_that_is_deleted_meanwhile_is_left_out_and_named(
    opened: Open, monkeypatch: pytest.MonkeyPatch, at: int, back: int | None
) -> None:
    collection = opened({"slots": {"lexical": {"adapter": "fake-calibrated"}}})
    documents = [Document(f"d{n}", f"sound file number{n}") for n in range(4)]
    collection.populate(documents)
    calls = iter(range(1000))
    events: dict[int, Callable[[], object]] = {at: lambda: collection.delete(["d2"])}
    if back is not None:
        events[at + back] = lambda: collection.populate(documents)

    def beside(call: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*args: Any, **options: Any) -> Any:
            event = events.pop(next(calls), None)
            if event is not None:
                event()
            return call(*args, **options)

        return answer

    for name in CALLS:
        monkeypatch.setattr(collection.client, name, beside(getattr(collection.client, name)))
    found = collection.explain("sound file number1", limit=10)
    assert {why.document.id for why in found} >= {"d0", "d1", "d3"}
    said = {note for why in found for note in why.notes}
    assert said == ({"deleted since it was found: d2"} if at == 1 else set()), "the search is the first call"


def test_ranks_and_scores_are_those_of_each_slot_alone(filled: Collection, queries: list[str]) -> None:
    for query in queries:
        found = explain(filled.handle, query, pipeline=PAIR >> Rrf(), limit=20)
        for slot, count in (("dense", 30), ("lexical", 40)):
            (alone,) = search(filled.handle, [query], pipeline=Retrieve(slot), limit=count)
            places = {hit.id: (rank, hit.score) for rank, hit in enumerate(alone, 1)}
            for explanation in found:
                own = explanation.slots[slot]
                rank, score = places.get(explanation.document.id, (None, own.score))
                assert own.rank == rank
                assert own.score == (None if score is None else pytest.approx(score, abs=1e-5))


def test_a_sparse_score_is_the_sum_of_its_words(filled: Collection, queries: list[str]) -> None:
    words = 0
    for query in queries:
        for explanation in explain(filled.handle, query, pipeline=Retrieve("lexical", 40), limit=15):
            (own,) = explanation.slots.values()
            assert own.score == pytest.approx(explanation.score, abs=1e-5)
            assert sum(term.contribution for term in own.terms) == pytest.approx(own.score, abs=1e-5)
            assert {term.word for term in own.terms} == set(query.split()) & set(explanation.document.text.split())
            assert all(
                term.contribution == pytest.approx(term.query * term.document * term.idf, abs=1e-6)
                for term in own.terms
            )
            assert [t.contribution for t in own.terms] == sorted((t.contribution for t in own.terms), reverse=True)
            words += len(own.terms)
    assert words > 40


SUMS = [
    *FUSED,
    Pipeline((Retrieve("lexical", 30),)),
    Pipeline((Retrieve("dense", 30),)),
    PAIR >> Dbsf() >> Boost(FieldBoost("parity", ["odd"], weight=0.3), NumberBoost("n", 50, 20, weight=-0.2)),
    PAIR >> Rrf() >> Rescore("late", 25),
    PAIR >> Rrf() >> Rescore("late", 25, weight=0.4),
    PAIR >> Rrf() >> Rescore("late", 25) >> Boost(FieldBoost("parity", ["odd"], weight=0.3)),
    PAIR >> Rrf() >> Diversify("dense", 0.7, 20),
    PAIR >> Dbsf() >> Rerank("fake-reranker", 15),
    PAIR >> Dbsf() >> Rerank("fake-reranker", 15, weight=0.5),
]


@pytest.mark.parametrize("pipeline", SUMS, ids=repr)
def test_the_parts_of_an_explanation_add_up_to_its_score_whatever_the_pipeline(
    filled: Collection, queries: list[str], pipeline: Pipeline
) -> None:
    hits = filled.search(queries[0], pipeline=pipeline, limit=8, pin=["d7"])
    explained = filled.explain(queries[0], pipeline=pipeline, limit=8, pin=["d7"])
    assert [(e.rank, e.document) for e in explained] == [(n, hit.document) for n, hit in enumerate(hits, 1)]
    for explanation, hit in zip(explained, hits, strict=True):
        parts = explanation.parts
        assert explanation.score == pytest.approx(hit.score, abs=1e-6)
        if explanation.fused is not None:
            shares = [slot.contribution or 0.0 for slot in explanation.slots.values()]
            assert sum(shares) == pytest.approx(explanation.fused, abs=1e-5)
        assert sum(part.value for part in parts) == pytest.approx(explanation.score, abs=1e-5)
        assert "rest" not in [part.kind for part in parts]
    kinds = {part.kind for part in filled.explain(queries[0], pipeline=pipeline, limit=1)[0].parts}
    replaced = {"stage"} if pipeline.rescore or pipeline.diversify or pipeline.rerank else {"slot"}
    expected = {"word"} if pipeline.retrieve[0].slot == "lexical" else replaced
    assert kinds == expected | ({"boost"} if pipeline.boost else set())


def test_parts_are_told_of_documents_that_are_no_hits_and_of_scores_that_are_approximate(
    filled: Collection, queries: list[str]
) -> None:
    order = [hit.id for hit in filled.search(queries[0], pipeline=PAIR >> Dbsf(), limit=40)]
    (lost,) = filled.explain(queries[0], pipeline=PAIR >> Dbsf() >> Rerank("fake-reranker", 5), ids=[order[30]])
    assert lost.rank is None
    assert sum(part.value for part in lost.parts) == pytest.approx(lost.fused, abs=1e-5)
    (hit,) = filled.explain(queries[0], pipeline=Retrieve("dense", 5), limit=1)
    assert hit.score is not None
    quantized = replace(hit, score=hit.score + 0.01)
    assert [part.kind for part in quantized.parts] == ["slot", "rest"]
    assert sum(part.value for part in quantized.parts) == pytest.approx(quantized.score, abs=1e-9)


def test_later_stages_show_the_score_that_each_gave(filled: Collection, queries: list[str]) -> None:
    pipeline = PAIR >> Rrf() >> Rescore("late", 25) >> Diversify("dense", 0.7, 20) >> Rerank("fake-reranker", 15)
    (late,) = search(filled.handle, queries[:1], pipeline=PAIR >> Rrf() >> Rescore("late", 25), limit=25)
    (hits,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=10)
    by_id = {hit.id: hit.score for hit in late}
    found = explain(filled.handle, queries[0], pipeline=pipeline, limit=10)
    assert [e.document.id for e in found] == [hit.id for hit in hits]
    for explanation, hit in zip(found, hits, strict=True):
        assert list(explanation.stages) == ["late", "mmr", "fake-reranker"]
        assert explanation.stages["late"] == pytest.approx(by_id[hit.id], abs=1e-5)
        assert explanation.stages["fake-reranker"] == explanation.score == hit.score


def test_documents_that_were_not_found_say_where_they_were_left(filled: Collection, queries: list[str]) -> None:
    pipeline = (
        Retrieve("dense", 10) + Retrieve("lexical", 10) >> Rrf() >> Rescore("late", 4) >> Rerank("fake-reranker", 2)
    )
    (fused,) = search(filled.handle, queries[:1], pipeline=Pipeline(pipeline.retrieve, Rrf()), limit=20)
    (hits,) = search(filled.handle, queries[:1], pipeline=pipeline, limit=2)
    candidates = {hit.id for hit in fused}
    never = next(f"d{n}" for n in range(100) if f"d{n}" not in candidates)
    passed = next(hit.id for hit in fused[:4] if hit.id not in {hit.id for hit in hits})
    ids = [never, fused[6].id, passed, hits[0].id]
    found = explain(filled.handle, queries[0], pipeline=pipeline, ids=ids)
    assert [explanation.document.id for explanation in found] == ids
    place = [hit.id for hit in fused].index(passed) + 1
    assert [explanation.lost for explanation in found] == [
        "not among the candidates of any slot",
        "7. after retrieval, and Rescore('late', 4) reads no further",
        f"{place}. after retrieval, then passed over by Rerank('fake-reranker', 2)",
        "",
    ]
    assert [explanation.rank for explanation in found] == [None, None, None, 1]
    assert found[0].slots["dense"].score is not None
    assert found[0].fused is None


def test_what_a_reranker_left_unscored_is_said_to_be_so(filled: Collection, queries: list[str]) -> None:
    plain = Retrieve("lexical", 30) >> Rerank("fake-reranker", 30)
    early = Retrieve("lexical", 30) >> Rerank("fake-reranker", 30, early_exit=EarlyExit(block=2, patience=1))
    asked, limit = queries[0], 3
    order = [hit.id for hit in filled.search(asked, pipeline=Retrieve("lexical", 30), limit=30)]
    whole = {hit.id: hit.score for hit in filled.search(asked, pipeline=plain, limit=30)}
    hits = filled.search(asked, pipeline=early, limit=limit)
    found = filled.explain(asked, pipeline=early, ids=order, limit=limit)
    left = [explanation.document.id for explanation in found if "not scored by" in explanation.lost]
    assert 0 < len(left) < len(order)
    assert left == order[-len(left) :], "it stops, and skips none before"
    scored = sorted(order[: -len(left)], key=lambda identifier: -whole[identifier])
    assert [hit.id for hit in hits] == scored[:limit]
    for place, explanation in enumerate(found, 1):
        if explanation.document.id in left:
            assert explanation.score is None
            assert "fake-reranker" not in explanation.stages
            assert explanation.lost == (
                f"{place}. after retrieval, and not scored by {early.rerank[0]!r}, which had settled the best before"
            )
        else:
            assert explanation.stages["fake-reranker"] == whole[explanation.document.id]


def test_groups_are_made_of_all_candidates_early_exit_or_not(filled: Collection, queries: list[str]) -> None:
    def groups(exit: EarlyExit | None) -> list[tuple[object, list[str]]]:
        pipeline = Retrieve("lexical", 30) >> Rerank("fake-reranker", 30, early_exit=exit)
        found = filled.search_groups(queries[0], group_by="parity", group_size=9, pipeline=pipeline)
        return [(group.value, [hit.id for hit in group.hits]) for group in found]

    assert groups(EarlyExit(1, 1)) == groups(None)


def test_an_explanation_reads_as_text(opened: Open, tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse", "uses_idf": True}}
    collection = opened({"slots": slots})
    documents = [Document("lame", "convert audio"), Document("mutt", "read mail"), Document("sox", "play sound")]
    collection.populate(documents, report_path=tmp_path / "aside")
    pair = Retrieve("dense", 2) + Retrieve("lexical", 2)
    first, *_ = explain(collection.handle, "convert audio", pipeline=pair >> Rrf() >> Rerank("fake-reranker"))
    head, text, columns, *rows = (" ".join(line.split()) for line in str(first).splitlines())
    assert (head, text) == ("rank 1, score 0.9998: lame", "convert audio")
    assert columns == "slot or stage rank score adds matching words or best passage"
    assert rows == [
        "dense 1 1.0000 +0.0164",
        "lexical 1 1.9617 +0.0164 audio 0.9808, convert 0.9808",
        "rrf =0.0328",
        "fake-reranker 0.9998",
        "the score is fake-reranker +0.9998",
    ]
    assert str(first.slots["lexical"].terms[0]).endswith(" 0.9808 = 1.0000 x 1.0000 x idf 0.9808")
    values = first.as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["pipeline"] == repr(first.pipeline)
    assert (values["rank"], values["score"], values["fused"]) == (1, first.score, first.fused)
    assert [term["word"] for term in values["slots"]["lexical"]["terms"]] == [
        term.word for term in first.slots["lexical"].terms
    ]


def test_a_text_index_and_distances_are_explained_too(opened: Open, documents: list[Document], tmp_path: Path) -> None:
    slots = {
        "near": {"adapter": "fake-dense", "similarity": "euclidean"},
        "lexical": {"adapter": "qdrant-text-index", "language": "none"},
    }
    collection = opened({"slots": slots}, Registry(fakes_plugin))
    require_feature(collection.client, "text_index")
    collection.populate(documents, report_path=tmp_path / "aside")
    for fusion in (Rrf(), Linear(), Dbsf()):
        pipeline = Retrieve("near", 30) + Retrieve("lexical", 30) >> fusion
        (hits,) = search(collection.handle, ["word9 word3"], pipeline=pipeline, limit=10)
        for explanation, hit in zip(explain(collection.handle, "word9 word3", pipeline=pipeline), hits, strict=True):
            parts = [slot.contribution or 0.0 for slot in explanation.slots.values()]
            assert sum(parts) == pytest.approx(hit.score, abs=1e-5)
            assert (explanation.slots["near"].score or 0.0) < 0
            assert explanation.slots["lexical"].terms == ()


def test_a_document_that_is_not_there_cannot_be_explained(filled: Collection) -> None:
    with pytest.raises(SearchError, match=r"there is no such document\n.*\n.*'nobody'"):
        explain(filled.handle, "word1", ids=["d1", "nobody"])


def test_a_query_without_hits_has_nothing_to_explain(filled: Collection) -> None:
    assert explain(filled.handle, "unheard", pipeline=Retrieve("lexical")) == []
