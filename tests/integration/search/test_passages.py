"""Slots with passages: a document's score is that of its best passage, and the hit says which one that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document
from diptych.errors import SearchError
from diptych.passages import MARK, PassageEncoder, PassageOptions
from diptych.protocols import Pair
from diptych.search import Diversify, Rerank, Rescore, Retrieve, Rrf
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats

from .conftest import Open

PASSAGES = {"tokens": 40, "overlap": 8}
SLOTS = {"dense": {"adapter": "fake-dense", "passages": PASSAGES}, "lexical": {"adapter": "fake-sparse"}}
QUERY = "w17 w23 w99"


def documents() -> list[Document]:
    """Sixty documents of 1 to 40 sentences, some titled, some indented."""
    random = np.random.default_rng(3)
    made = []
    for n in range(60):
        sentences = [
            " ".join(f"w{word}" for word in random.integers(0, 120, 9)) + "." for _ in range(random.integers(1, 41))
        ]
        text = "  \n" * (n % 3) + "\n\n".join(sentences)
        made.append(Document(f"d{n}", text, f"Title {n}" if n % 2 else "", {"n": n}))
    return made


@pytest.fixture(scope="module")
def long(opened: Open) -> Collection:
    collection = opened({"slots": SLOTS})
    assert collection.populate(documents()).new == 60
    return collection


def by_hand(query: str) -> dict[str, list[tuple[float, str]]]:
    """Score and text of each passage of each document, the best first: every passage encoded by itself."""
    plain = FakeDenseEncoder()
    encoder = PassageEncoder(plain, "dense", PassageOptions(**PASSAGES))
    (vector,) = plain.encode_query([query])
    scored = {}
    for document in documents():
        text = document.text.strip()
        (split,) = encoder.splitter.split([f"{document.title}{MARK}{text}" if document.title else text])
        scores = plain.encode_document(encoder.splitter.read(split)) @ vector
        pairs = [(float(score), text[begin:end]) for score, (begin, end) in zip(scores, split.places, strict=True)]
        scored[document.id] = sorted(pairs, reverse=True)
    return scored


def test_a_documents_score_is_that_of_its_best_passage(long: Collection) -> None:
    expected = by_hand(QUERY)
    hits = long.search(QUERY, pipeline="dense", limit=60)
    assert len(hits) == 60
    assert [hit.score for hit in hits] == pytest.approx(
        sorted((own[0][0] for own in expected.values()), reverse=True), abs=1e-4
    )
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.id][0][0], abs=1e-4)


def test_a_hit_shows_its_best_passages_where_they_stand_in_the_text(long: Collection) -> None:
    expected, texts = by_hand(QUERY), {document.id: document.text for document in documents()}
    for hit in long.search(QUERY, pipeline="dense", limit=60, passages=4):
        assert len(hit.passages) == min(4, len(expected[hit.id]))
        assert [own.score for own in hit.passages] == pytest.approx([s for s, _ in expected[hit.id][:4]], abs=1e-4)
        assert hit.passages[0].score == pytest.approx(hit.score, abs=1e-4)
        assert all(own.text == texts[hit.id][own.start : own.end] for own in hit.passages)
        assert hit.passages[0].text in [text for _, text in expected[hit.id]]


def test_a_fusion_shows_the_passages_of_the_slot_that_has_them(long: Collection) -> None:
    (hit,) = long.search(QUERY, limit=1)
    alone = {own.id: own.passages for own in long.search(QUERY, pipeline="dense", limit=60)}
    assert hit.passages == alone[hit.id]
    assert len(hit.passages) == 3


def test_passages_can_be_left_out(long: Collection) -> None:
    for options in ({"passages": 0}, {"pipeline": "lexical"}):  # the latter's slot has none
        assert all(not hit.passages for hit in long.search(QUERY, **options))
    with pytest.raises(SearchError, match="passages is not usable"):
        long.search(QUERY, passages=-1)


def test_passages_are_shown_without_the_documents_text(long: Collection) -> None:
    whole = long.search(QUERY, limit=5)
    assert not any(hit.passages for hit in long.search(QUERY, limit=5, with_payload=False))
    for keys in (["n"], False):
        bare = long.search(QUERY, limit=5, with_payload=keys, passages=3)
        assert [hit.passages for hit in bare] == [hit.passages for hit in whole]
        assert all(hit.document.text == "" for hit in bare)


def test_a_document_of_a_title_alone_shows_no_passage(opened: Open) -> None:
    collection = opened({"slots": {"dense": SLOTS["dense"]}})
    collection.populate([Document("t", "", "w1 w2 w3"), Document("x", "w4 w5.", "w1")])
    passages = {hit.id: [own.text for own in hit.passages] for hit in collection.search("w1 w2", limit=2)}
    assert passages == {"t": [], "x": ["w4 w5."]}


class Recorder:
    """A reranker that keeps what it reads, and prefers short texts."""

    independent = True

    def __init__(self, max_length: int | None) -> None:
        self.max_length, self.pairs = max_length, list[Pair]()

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        self.pairs += pairs
        return np.array([-len(text) for _, text in pairs], np.float32)


def test_a_reranker_reads_the_best_passages_that_fit(long: Collection) -> None:
    reranker: Any = Recorder(max_length=64)
    stages = Retrieve("dense", 20) + Retrieve("lexical", 20) >> Rrf() >> Rerank(reranker, 10)
    hits = long.search(QUERY, pipeline=stages, limit=10)
    read = [text for _, text in reranker.pairs]
    assert all(any(hit.passages[0].text in text for text in read) for hit in hits)
    assert max(map(len, read)) < 64 * 3 + 160
    alone = {hit.id: hit.passages for hit in long.search(QUERY, pipeline="dense", limit=60)}
    assert all(hit.passages == alone[hit.id] for hit in hits)
    assert hits == sorted(hits, key=lambda hit: -hit.score)


def test_a_reranker_reads_the_document_where_it_is_told_so(long: Collection) -> None:
    reranker: Any = Recorder(max_length=64)
    stage = Rerank(reranker, 10, read="document")
    long.search(QUERY, pipeline=Retrieve("dense", 10) >> stage, limit=10)
    texts = {" ".join(filter(None, (own.title, own.text.strip()))) for own in documents()}
    assert {text for _, text in reranker.pairs} <= texts
    assert repr(stage) == "Rerank(Recorder(), 10, read='document')"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"like": ["d1"]}, r"(?s)like and unlike need a dense slot.*got: dense: a vector for each passage, lexical"),
        ({"pipeline": Retrieve("dense", 10) >> Diversify("dense")}, "(?s)cannot diversify.*a vector for each passage"),
    ],
)
def test_what_needs_one_vector_a_document_says_so(long: Collection, options: Any, what: str) -> None:
    with pytest.raises(SearchError, match=what):
        long.search(QUERY, **options)


def test_late_interaction_with_passages_rescores_by_all_of_a_document(opened: Open) -> None:
    reads = {"adapter": "fake-multivector", "max_tokens": 20}
    slots = {"dense": SLOTS["dense"], "beginning": reads, "late": {**reads, "passages": {"tokens": 20, "overlap": 0}}}
    collection = opened({"slots": slots})
    texts = {"a": "w1 " * 60 + "w7 w8 w9.", "b": "w7 w2 w3. " * 20}
    collection.populate([Document(name, text) for name, text in texts.items()])
    first = {
        slot: collection.search("w7 w8 w9", pipeline=Retrieve("dense") >> Rescore(slot), limit=1)[0].id
        for slot in ("beginning", "late")
    }
    assert first == {"beginning": "b", "late": "a"}


def test_a_changed_document_shows_its_new_passages_and_a_deleted_one_none(opened: Open) -> None:
    collection = opened({"slots": {"dense": SLOTS["dense"]}})
    collection.populate(documents()[:20])
    (first,) = collection.search(QUERY, limit=1)
    changed = replace(first.document, text=first.document.text + "\n\n" + "w500 w501 w502 w503.")
    collection.populate([changed])
    (hit,) = collection.search("w500 w501 w502 w503", limit=1)
    assert (hit.id, "w500 w501 w502 w503." in hit.passages[0].text) == (first.id, True)
    collection.delete([first.id])
    assert first.id not in {own.id for own in collection.search("w500 w501 w502 w503", limit=20)}


def test_an_explanation_names_the_best_passage(long: Collection) -> None:
    expected, texts = by_hand(QUERY), {document.id: document.text for document in documents()}
    worst = long.search(QUERY, pipeline="dense", limit=60)[-1].id  # no hit of the five
    for explained in (*long.explain(QUERY, limit=5), *long.explain(QUERY, limit=5, ids=[worst])):
        own, passages = explained.slots["dense"], expected[explained.document.id]
        assert own.passage is not None
        assert own.passages == len(passages)
        assert own.passage.score == pytest.approx(passages[0][0], abs=1e-4)
        assert own.passage.score == pytest.approx(own.score, abs=1e-4)
        assert texts[explained.document.id][own.passage.start : own.passage.end] == passages[0][1]
        assert passages[0][1].startswith(own.passage.text.rstrip("…"))
        assert len(own.passage.text) <= 241
        assert explained.slots["lexical"].passage is None
        assert f"best of {own.passages} passages, {own.passage.start} to {own.passage.end}" in str(explained)
        assert explained.as_dict()["slots"]["dense"]["passage"]["end"] == own.passage.end
