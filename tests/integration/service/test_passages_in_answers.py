"""/search and its OpenAPI document tell of passages."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych_serve.service.answers import SearchAnswer
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from long_documents import QUERY, SENTENCES, SLOTS, manuals
from serving import served


@pytest.fixture(scope="module")
def manual_pages(fakes: Registry) -> Collection:
    collection = Collection.open(
        parse_config({"store": "memory:", "collection": "manuals", "slots": SLOTS}), registry=fakes
    )
    collection.populate(manuals())
    return collection


@pytest.fixture(scope="module")
def client(manual_pages: Collection, fakes: Registry) -> Iterator[httpx.Client]:
    """Closes the collection in the end."""
    with (
        served(application(Served([manual_pages], registry=fakes))) as url,
        httpx.Client(base_url=url, timeout=60) as made,
    ):
        yield made


def test_hits_have_their_passages_and_as_many_as_asked_for(client: httpx.Client, manual_pages: Collection) -> None:
    for body, most in (({}, 3), ({"passages": 1}, 1), ({"passages": 0}, 0), ({"with_payload": ["title"]}, 3)):
        answer = client.post("/search", json={"query": QUERY, **body})
        described = SearchAnswer.model_validate_json(answer.content, extra="forbid")
        assert described.model_dump(exclude_unset=True) == answer.json()
        expected = {hit.id: [own.text for own in hit.passages] for hit in manual_pages.search(QUERY, passages=most)}
        found = {hit.id: [own.text for own in hit.passages] for hit in described.results[0].hits}
        assert found == expected
        assert {len(passages) for passages in found.values()} == {most}
    for wrong in (-1, 1001, "2", 1.5):
        assert "passages" in client.post("/search", json={"query": QUERY, "passages": wrong}).json()["error"]["message"]


def test_highlights_come_along_where_they_are_asked_for(client: httpx.Client) -> None:
    answer = client.post("/search", json={"query": QUERY, "limit": 1, "highlight": True})
    SearchAnswer.model_validate_json(answer.content, extra="forbid")
    (hit,) = answer.json()["results"][0]["hits"]
    assert hit["highlight"]["sentence"]["text"] == SENTENCES["sox"]
    best = hit["passages"][0]
    assert hit["text"][best["start"] : best["end"]] == best["text"]
    assert [hit["text"][start:end] for start, end in hit["highlight"]["words"]] == ["convert", "audio", "files"]
    assert client.post("/search", json={"query": QUERY}).json()["results"][0]["hits"][0]["highlight"] is None
