"""Where a slot counts words, the passages of a hit are chosen by vectors and words together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document
from diptych.passages import PassageEncoder, PassageOptions
from diptych.passages.text_splitter import Places
from diptych.search import Retrieve
from diptych.testing import FakeDenseEncoder

from .conftest import Open

PASSAGES: dict[str, Any] = {"tokens": 24, "overlap": 0, "context": []}
SLOTS = {
    "dense": {"adapter": "fake-dense", "passages": PASSAGES},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
}
QUERY = "w17 w23 w99 w3"


def documents() -> list[Document]:
    random = np.random.default_rng(11)
    texts = [
        "\n\n".join(" ".join(f"w{word}" for word in random.integers(0, 60, 12)) + "." for _ in range(2 * n))
        for n in range(1, 13)
    ]
    return [Document(f"d{n}", text) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def both(opened: Open) -> Collection:
    collection = opened({"slots": SLOTS})
    collection.populate(documents())
    return collection


def by_hand(document: Document) -> list[tuple[float, tuple[int, int]]]:
    """The score and place of each passage in the order of vectors and words together, from the formula."""
    plain, own = FakeDenseEncoder(), documents_passages(document)
    texts = [document.text[begin:end] for begin, end in own]
    scores = plain.encode_document(texts) @ plain.encode_query([QUERY])[0]
    words = [set(text.replace(".", " ").split()) for text in texts]
    having = {word: sum(word in passage for passage in words) for word in QUERY.split()}
    rarity = {word: math.log(1 + (len(own) - n + 0.5) / (n + 0.5)) for word, n in having.items()}
    shares = [sum(rarity[word] for word in rarity if word in passage) / sum(rarity.values()) for passage in words]
    together = scores + 2 * scores.std() * np.array(shares)
    return [(float(scores[n]), own[n]) for n in np.argsort(-together, kind="stable")]


def documents_passages(document: Document) -> Places:
    (places,) = PassageEncoder(FakeDenseEncoder(), "dense", PassageOptions(**PASSAGES)).places([document.text])
    return places


def test_passages_come_in_the_order_of_vectors_and_words_with_the_scores_of_the_vectors(both: Collection) -> None:
    texts, moved = {document.id: document for document in documents()}, 0
    for hit in both.search(QUERY, limit=12, passages=10):
        expected = by_hand(texts[hit.id])[:10]
        assert [(own.start, own.end) for own in hit.passages] == [place for _, place in expected]
        assert [own.score for own in hit.passages] == pytest.approx([score for score, _ in expected], abs=1e-4)
        moved += [own.score for own in hit.passages] != sorted((own.score for own in hit.passages), reverse=True)
    assert moved >= 3  # else the words would have changed nothing


def test_without_the_slot_of_words_the_vectors_alone_decide(both: Collection) -> None:
    by_text = both.search(QUERY, pipeline="dense", limit=12, passages=10)
    vector = FakeDenseEncoder().encode_query([QUERY])[0]
    by_vector = both.search_by_vector(vector, Retrieve("dense"), limit=12, passages=10)
    by_unknown_words = both.search("nowhere", limit=12, passages=10)
    for hit in [*by_text, *by_vector, *by_unknown_words]:
        scores = [own.score for own in hit.passages]
        assert scores == sorted(scores, reverse=True)


def test_the_passage_of_an_explanation_is_that_of_the_slots_vectors(both: Collection) -> None:
    for explanation in both.explain(QUERY, ids=["d3", "d7"]):
        passage = explanation.slots["dense"].passage
        assert passage is not None
        assert passage.score == pytest.approx(explanation.slots["dense"].score, abs=1e-4)
