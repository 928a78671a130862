"""/search gives what Collection.search gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import models

from diptych import Collection, Hit, Query, Registry
from diptych.search import Retrieve
from diptych_serve.service.answers import FoundDocument, SearchAnswer
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import animals, served

FILTER = {"must": [{"key": "letter", "match": {"any": ["c", "o"]}}]}


def asked(client: httpx.Client, **body: Any) -> Any:
    answer = client.post("/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(hits: list[Hit]) -> list[tuple[str, Any, str]]:
    return [(hit.id, pytest.approx(hit.score, abs=1e-6), hit.document.text) for hit in hits]


def found(answer: Any, place: int = 0) -> list[tuple[str, Any, str]]:
    return [(hit["id"], hit["score"], hit["text"]) for hit in answer["results"][place]["hits"]]


def test_the_hits_are_those_of_the_collection(client: httpx.Client, collection: Collection) -> None:
    answer = asked(client, query="the cat at night")
    assert answer["collection"] == "animals"
    assert found(answer) == rows(collection.search("the cat at night"))
    best = answer["results"][0]["hits"][0]
    assert best["metadata"] == {"letter": best["id"][0]}
    assert set(best["stages"]) == {"dbsf", "fake-reranker"}


@pytest.mark.parametrize("explain", [False, True])
def test_an_answer_is_what_its_description_says(client: httpx.Client, explain: bool) -> None:
    answer = client.post("/search", json={"queries": ["the cat at night", "an egg"], "explain": explain})
    described = SearchAnswer.model_validate_json(answer.content, extra="forbid")
    assert described.model_dump(mode="json", exclude_unset=True) == answer.json()
    assert set(answer.json()["results"][0]) == {"query", "hits", *(("explanations",) if explain else ())}
    assert set(answer.json()["results"][0]["hits"][0]) == set(FoundDocument.model_fields)


def test_limit_offset_slot_threshold_and_filter_mean_what_they_mean_there(
    client: httpx.Client, collection: Collection
) -> None:
    query, wanted = "the cat at night", models.Filter.model_validate(FILTER)
    assert found(asked(client, query=query, limit=2, offset=1)) == rows(collection.search(query, limit=2, offset=1))
    alone = rows(collection.search(query, pipeline=Retrieve("lexical")))
    assert found(asked(client, query=query, pipeline="lexical")) == alone
    assert found(asked(client, query=query, filter=FILTER)) == rows(collection.search(query, filter=wanted))
    kept = rows(collection.search(query, score_threshold=0.6))
    assert len(kept) == 1
    assert found(asked(client, query=query, score_threshold=0.6)) == kept


def test_an_answer_without_hits_names_the_filter_keys_that_no_document_has(client: httpx.Client) -> None:
    misspelt = {"must": [{"key": "leter", "match": {"value": "c"}}, {"key": "letter", "match": {"value": "c"}}]}
    answer = asked(client, query="cat", filter=misspelt)
    assert found(answer) == []
    assert answer["warnings"] == ["no document has 'leter', which the filter asks for: did you mean 'letter'?"]
    assert "warnings" not in asked(client, query="cat", filter={"must": [{"key": "letter", "match": {"value": "z"}}]})
    assert "warnings" not in asked(client, query="cat", filter={"should": misspelt["must"]})
    assert "warnings" not in asked(client, query="cat")


def test_several_queries_are_answered_in_their_order(client: httpx.Client, collection: Collection) -> None:
    queries = ["the cat at night", "an egg", "the post man"]
    answer = asked(client, queries=queries)
    assert [result["query"] for result in answer["results"]] == queries
    for place, query in enumerate(queries):
        assert found(answer, place) == rows(collection.search(query))


def test_payloads_can_be_left_out(client: httpx.Client) -> None:
    (hit, *_) = asked(client, query="cat", with_payload=False)["results"][0]["hits"]
    assert (hit["text"], hit["metadata"]) == ("", {})
    (hit, *_) = asked(client, query="cat", with_payload=["letter"])["results"][0]["hits"]
    assert (hit["text"], hit["metadata"]) == ("", {"letter": hit["id"][0]})


def test_explanations_are_those_of_the_hits_and_add_up(client: httpx.Client) -> None:
    (result,) = asked(client, query="the cat at night", limit=2, explain=True)["results"]
    assert [item["id"] for item in result["explanations"]] == [hit["id"] for hit in result["hits"]]
    for item, hit in zip(result["explanations"], result["hits"], strict=True):
        parts = [slot["contribution"] for slot in item["slots"].values()]
        assert sum(parts) == pytest.approx(item["fused"], abs=1e-5)
        assert item["score"] == pytest.approx(hit["score"], abs=1e-6)
        terms = item["slots"]["lexical"]["terms"]
        assert sum(term["contribution"] for term in terms) == pytest.approx(item["slots"]["lexical"]["score"], abs=1e-5)
    assert "explanations" not in asked(client, query="cat")["results"][0]


@pytest.fixture
def two(tmp_path: Path, fakes: Registry) -> Iterator[httpx.Client]:
    """Two collections in one embedded store."""
    first = animals(tmp_path, fakes)
    first.close()
    animals(tmp_path, fakes, name="beasts", slots={"dense": {"adapter": "fake-dense", "seed": 3}}, search={}).close()
    both = Served.stored(f"edge:{tmp_path / 'qdrant'}", ["animals", "beasts"], registry=fakes)
    with served(application(both)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_several_collections_are_called_by_their_names(two: httpx.Client) -> None:
    assert "the request names no collection" in two.post("/search", json={"query": "cat"}).json()["error"]["message"]
    assert asked(two, query="cat", collection="beasts")["collection"] == "beasts"
    models = [model["id"] for model in two.get("/v1/models").json()["data"]]
    assert models == ["animals/dense", "long", "beasts/dense", "fake-reranker"]

    def embedded(model: str) -> httpx.Response:
        return two.post("/v1/embeddings", json={"model": model, "input": "cat"})

    assert embedded("animals/dense").json()["data"] != embedded("beasts/dense").json()["data"]
    assert "animals/dense, long, beasts/dense" in embedded("dense").json()["error"]["message"]


def test_boosts_examples_pins_and_exclusions_are_those_of_the_collection(
    client: httpx.Client, collection: Collection
) -> None:
    boost = [{"kind": "field", "field": "letter", "equals": "o", "weight": 5.0}]
    options: dict[str, Any] = {"boost": boost, "pin": ["cat"], "exclude": ["owl"]}
    answer = asked(client, query="at night", like=["hen", {"text": "an egg"}], unlike=["cat"], explain=True, **options)
    hits = collection.search("at night", like=["hen", Query("an egg")], unlike=["cat"], **options)
    assert found(answer) == rows(hits)
    assert hits[0].id == "cat"
    explained = answer["results"][0]["explanations"]
    assert explained[0]["notes"][-1] == "pinned"
    assert "field letter" in explained[1]["boosts"]


def test_a_hit_that_was_deleted_since_the_search_has_no_explanation(
    tmp_path: Path, fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with animals(tmp_path, fakes) as collection, served(application(Served([collection], registry=fakes))) as url:
        explain = Collection.explain

        def later(self: Collection, *args: Any, **options: Any) -> Any:
            collection.delete(["cat"])
            return explain(self, *args, **options)

        monkeypatch.setattr(Collection, "explain", later)
        with httpx.Client(base_url=url) as client:
            (result,) = asked(client, query="the cat", explain=True)["results"]
        names = [hit["id"] for hit in result["hits"]]
        assert "cat" in names
        assert [item["id"] for item in result["explanations"]] == [name for name in names if name != "cat"]
