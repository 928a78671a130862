"""Collections that another program filled, and those opened by their store alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.adopt import adopt
from diptych.config.models import Config
from diptych.testing import FakeDenseEncoder

TEXTS = {
    "one": "the cat sleeps on the mat",
    "two": "the dog barks at the post man",
    "three": "an owl hunts mice at night",
    "four": "hens lay eggs every day",
}


@pytest.fixture(scope="module", params=["", "text-dense"])
def adopted(request: pytest.FixtureRequest, fakes: Registry) -> Iterator[Collection]:
    """As LangChain writes: text under `page_content`, metadata beneath one key, and no id of diptych's."""
    client, vector = QdrantClient(":memory:"), request.param
    params = models.VectorParams(size=24, distance=models.Distance.COSINE)
    client.create_collection("theirs", vectors_config={vector: params} if vector else params)
    encoder = FakeDenseEncoder(dimension=24)
    points = []
    for number, (section, text) in enumerate(TEXTS.items(), 1):
        row = encoder.encode_document([text])[0].tolist()
        payload = {"page_content": text, "metadata": {"section": section, "page": number}}
        points.append(models.PointStruct(id=number, vector={vector: row} if vector else row, payload=payload))
    client.upsert("theirs", points)
    slots = {"dense": {"adapter": "fake-dense", "dimension": 24}}
    config = Config.model_validate({"store": "memory:", "collection": "theirs", "slots": slots})
    adopt(client, "theirs", config, registry=fakes)
    yield Collection.open(client, "theirs", registry=fakes)
    client.close()


@pytest.fixture
def theirs(adopted: Collection, studio_over: Callable[..., TestClient]) -> Callable[..., Any]:
    client = studio_over(adopted)

    def ask(route: str, **body: object) -> Any:
        found = client.post(f"/studio/api/{route}", json=body) if body else client.get(f"/studio/api/{route}")
        assert found.status_code == 200, found.text
        return found.json()

    return ask


def test_an_adopted_collection_is_described_and_searched(theirs: Callable[..., Any], adopted: Collection) -> None:
    (state,) = theirs("state")["collections"]
    assert [side["id"] for side in state["sides"]] == ["pipeline", "slot:dense"]
    assert {field["key"]: field["type"] for field in state["fields"]} == {
        "metadata.section": "keyword",
        "metadata.page": "integer",
    }
    answer = theirs("search", query="the cat on the mat")
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in adopted.search("the cat on the mat")]
    best = answer["hits"][0]
    assert (best["text"], best["payload"]) == (TEXTS["one"], {"section": "one", "page": 1})
    located = theirs("locate", query="the cat on the mat", id=best["id"])
    assert sum(part["value"] for part in located["parts"]) == pytest.approx(best["score"], abs=1e-5)


def test_an_adopted_collection_has_its_vectors_and_its_timeline(
    theirs: Callable[..., Any], adopted: Collection
) -> None:
    found = theirs("collection")
    (row,) = found["vectors"]
    assert (row["vector"], row["missing"], row["points"]) == (adopted.handle.slots["dense"].vector, 0, 4)
    assert (found["state"], [own["what"] for own in found["history"]], row["side"]) == (
        "none",
        ["adopted"],
        "slot:dense",
    )
