"""Where is document X? A sentence, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diptych import Collection
from diptych.collection.explain import explain
from diptych.search import Retrieve

Ask = Callable[..., Any]
LETTER = {"must": [{"key": "letter", "match": {"value": "c"}}]}


def test_a_hit_is_located_where_it_stands(asked: Ask, collection: Collection) -> None:
    hits = collection.search("the cat at night")
    for rank, hit in enumerate(hits, 1):
        found = asked("locate", query="the cat at night", id=hit.id)
        assert (found["rank"], found["sentence"]) == (rank, f"“{hit.document.text}” is at rank {rank}.")
        assert found["document"]["text"] == hit.document.text


def test_a_document_below_the_hits_that_are_shown_has_its_place(
    filled: Callable[..., Collection], studio_over: Ask
) -> None:
    documents = [{"id": str(n), "text": f"cat number {n}"} for n in range(40)]
    collection = filled(documents, search={"retrieve": {"dense": 30, "lexical": 30}, "limit": 5})
    client = studio_over(collection)
    order = [hit.id for hit in collection.search("cat number 7", limit=20)]
    found = client.post("/studio/api/locate", json={"query": "cat number 7", "id": order[14]}).json()
    assert found["rank"] == 15
    assert "at rank 15, below the 5 hits that are shown" in found["sentence"]


def test_a_document_that_no_slot_reads_has_its_place_further_down(
    filled: Callable[..., Collection], studio_over: Ask
) -> None:
    documents = [{"id": str(n), "text": f"animal number {n}"} for n in range(30)] + [{"id": "x", "text": "quite else"}]
    collection = filled(documents, search={"retrieve": {"dense": 3, "lexical": 3}, "limit": 3})
    found = studio_over(collection).post("/studio/api/locate", json={"query": "animal", "id": "x"}).json()
    order = [hit.id for hit in collection.search("animal", pipeline=Retrieve("dense"), limit=31)]
    dense, lexical = found["legs"]
    assert (found["rank"], dense["rank"], dense["candidate"]) == (None, order.index("x") + 1, False)
    assert (lexical["rank"], lexical["score"]) == (None, None)
    assert found["sentence"].startswith("No slot passes “")
    assert f"dense has it at rank {order.index('x') + 1} and passes only its first 3 on" in found["sentence"]
    assert "lexical finds nothing of the query in it" in found["sentence"]


def test_why_a_document_is_missing_is_said(asked: Ask) -> None:
    assert asked("locate", query="cat", id="hen", filter=LETTER)["sentence"] == (
        "“the hen lays an egg every day” does not match the filter."
    )
    absent = asked("locate", query="cat", id="unicorn")
    assert (absent["exists"], absent["sentence"]) == (
        False,
        "Collection 'animals' holds no document with the id 'unicorn'.",
    )
    lost = asked("locate", query="cat", id="hen", side={"yaml": "exclude: [hen]"})
    assert "excluded by its id" in lost["sentence"]
    narrow = {"yaml": "retrieve: {dense: 10}\nrerank: [{adapter: fake-reranker, candidates: 1}]\nlimit: 1"}
    lost = asked("locate", query="cat", id="hen", side=narrow)
    assert "lost on the way" in lost["sentence"]
    assert "Rerank('fake-reranker', 1) reads no further" in lost["sentence"]


@pytest.mark.parametrize("side", ["pipeline", "part:dbsf", "slot:dense", "slot:lexical"])
def test_the_parts_sum_to_the_score(asked: Ask, side: str) -> None:
    question = {"query": "the cat at night", "side": side}
    for hit in asked(**question)["hits"]:
        found = asked("locate", **question, id=hit["id"])
        assert sum(part["value"] for part in found["parts"]) == pytest.approx(hit["score"], abs=1e-5)
        assert "rest" not in {part["kind"] for part in found["parts"]}
        if side == "pipeline":  # whose reranker gives the whole score
            assert [part["kind"] for part in found["parts"]] == ["stage"]
            assert sum(part["value"] for part in found["before"]) == pytest.approx(found["why"]["fused"], abs=1e-5)
        for slot in found["why"]["slots"].values():
            if slot["terms"]:
                assert sum(term["contribution"] for term in slot["terms"]) == pytest.approx(slot["score"], abs=1e-5)


def test_a_document_that_is_deleted_meanwhile_is_absent(
    filled: Callable[..., Collection], studio_over: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled([{"id": "1", "text": "a cat", "title": "\u202egnp.exe"}])
    client, asked = studio_over(collection), {"query": "cat", "id": "1"}
    found = client.post("/studio/api/locate", json=asked).json()
    assert found["sentence"] == "“gnp.exe” is at rank 1.", "its title turns nothing else"

    def later(*args: Any, **options: Any) -> Any:
        collection.delete(["1"])
        return explain(*args, **options)

    monkeypatch.setattr("diptych_serve.studio.search.explain", later)
    assert client.post("/studio/api/locate", json=asked).json()["exists"] is False
