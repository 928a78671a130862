"""Searching in Studio gives what the collection gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection
from diptych.search import Retrieve

Ask = Callable[..., Any]


def test_the_state_names_what_can_be_asked(client: TestClient) -> None:
    state = client.get("/studio/api/state").json()
    (collection,) = state["collections"]
    assert (collection["name"], collection["documents"]) == ("animals", 4)
    assert [side["id"] for side in collection["sides"]][:2] == ["pipeline", "slot:dense"]
    assert state["may"] == {"write": False, "judge": False}


def test_the_whole_pipeline_and_one_slot_answer_as_the_collection_does(asked: Ask, collection: Collection) -> None:
    answer = asked(query="the cat at night")
    hits = collection.search("the cat at night")
    assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [(h.id, pytest.approx(h.score)) for h in hits]
    assert {stage["name"] for stage in answer["stages"]} == {"encode", "retrieve", "rerank"}
    alone = asked(query="the cat at night", side="slot:lexical")
    assert [hit["id"] for hit in alone["hits"]] == [
        hit.id for hit in collection.search("the cat at night", pipeline=Retrieve("lexical"))
    ]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"query": "cat", "side": "slot:dens"}, 400, "did you mean 'slot:dense'?"),
        ({"query": ""}, 400, "a query is empty"),
        ({"query": "cat", "limit": 0}, 400, "limit"),
        ({"query": "cat", "collection": "plants"}, 404, "expected: animals"),
        ({"query": "cat", "tenant": "a"}, 400, "tenant"),
    ],
)
def test_what_cannot_be_asked_says_why(client: TestClient, body: dict[str, object], status: int, text: str) -> None:
    answer = client.post("/studio/api/search", json=body)
    assert (answer.status_code, text in answer.json()["error"]["message"]) == (status, True), answer.text


def test_only_json_is_read(client: TestClient) -> None:
    answer = client.post("/studio/api/search", content='{"query": "cat"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415
