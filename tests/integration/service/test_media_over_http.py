"""Media of clients: data: URIs and lists are taken, paths and addresses never."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

import colour_plugin
import diptych_adapters.hooks
from colour_plugin import COLOURS, uri
from diptych import Collection, Document, Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import served


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("pictures")
    registry = Registry(colour_plugin, diptych_adapters.hooks, installed=False)
    Image.new("RGB", (6, 6), COLOURS["red"]).save(folder / "red.png")
    with_pictures = {"words": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image"}}
    shared = {"store": "memory:", "media": {"root": str(folder), "hosts": ["example.com"]}}
    shapes = Collection.open({**shared, "collection": "shapes", "slots": with_pictures}, registry=registry)
    shapes.populate([Document("red", "a red square", media={"image": "red.png"})])
    words = {**shared, "collection": "words", "slots": {"words": {"adapter": "bm25"}}}
    texts = Collection.open(words, registry=registry)
    service = application(Served([shapes, texts], registry=registry), writes=True)
    with served(service) as url, httpx.Client(base_url=url) as made:
        yield made


NAMED: list[Any] = [
    "red.png",
    "/etc/hostname",
    "https://example.com/a.png",
    "http://127.0.0.1/",
    "",
    5,
    {"path": "red.png"},
]


def test_documents_with_pictures_are_written_and_found_by_pictures(client: httpx.Client) -> None:
    body = {"collection": "shapes", "documents": [{"id": "blue", "media": {"image": uri("blue")}}]}
    assert client.put("/documents", json=body).json()["new"] == 1
    for asked in ({"media": {"image": uri("blue")}}, {"query": "", "media": {"image": uri("blue")}}):
        asked = {key: value for key, value in asked.items() if value}
        answer = client.post("/search", json={"collection": "shapes", **asked}).json()
        (found,) = answer["results"]
        assert found["query"] == ""
        assert found["hits"][0]["id"] == "blue"
        assert set(found["hits"][0]["media"]["image"]) == {"source", "digest", "bytes"}
    both = {"collection": "shapes", "query": "square", "media": {"image": uri("red")}, "explain": True}
    (found,) = client.post("/search", json=both).json()["results"]
    assert found["hits"][0]["id"] == found["explanations"][0]["id"] == "red"
    assert found["hits"][0]["media"]["image"]["source"] == "red.png"


@pytest.mark.parametrize("named", NAMED, ids=str)
def test_no_path_and_no_address_is_taken_from_a_client(client: httpx.Client, named: Any) -> None:
    document = {"id": "x", "text": "words", "media": {"image": named}}
    answers = [
        client.put("/documents", json={"collection": "shapes", "documents": [document]}),
        client.post(
            "/populate?collection=shapes",
            content=json.dumps(document) + "\n",
            headers={"content-type": "application/x-ndjson"},
        ),
        client.post("/search", json={"collection": "shapes", "media": {"image": named}}),
    ]
    for answer in answers:
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert "does not open files or addresses" in message or "the request cannot be read" in message


def test_bad_media_are_refused_and_rejected_by_name(client: httpx.Client) -> None:
    bad = {"image": "data:image/png;base64,AAAA"}
    answer = client.post("/search", json={"collection": "shapes", "media": bad})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "media_error"
    documents = [{"id": "x", "media": bad}, {"id": "y", "media": {"image": uri("green")}}]
    written = client.put("/documents", json={"collection": "shapes", "documents": documents}).json()
    assert (written["new"], written["set_aside"]) == (1, 1)
    assert "diptych cannot read this picture" in json.dumps(written)
    for unknown in ({"smell": uri("red")}, {}):
        assert client.post("/search", json={"collection": "shapes", "media": unknown}).status_code == 400
    assert client.post("/search", json={"collection": "shapes", "queries": ["a"], "media": bad}).status_code == 400


def test_media_of_a_collection_of_texts_stay_metadata(client: httpx.Client) -> None:
    document = {"id": "x", "text": "words", "media": {"image": "red.png"}}
    assert client.put("/documents", json={"collection": "words", "documents": [document]}).status_code == 200
    (found,) = client.post("/search", json={"collection": "words", "query": "words"}).json()["results"]
    assert found["hits"][0]["metadata"] == {"media": {"image": "red.png"}}
    assert found["hits"][0]["media"] == {}


def test_lines_without_the_pictures_that_documents_have_are_refused(client: httpx.Client) -> None:
    documents = [{"id": f"kept-{name}", "media": {"image": uri(name)}} for name in COLOURS]
    assert client.put("/documents", json={"collection": "shapes", "documents": documents}).status_code == 200
    lines = "".join(json.dumps({"id": document["id"], "text": "bare"}) + "\n" for document in documents)
    headers = {"content-type": "application/x-ndjson"}
    answer = client.post("/populate?collection=shapes", content=lines, headers=headers)
    assert answer.status_code == 409
    assert "would lose their image" in answer.json()["error"]["message"]
    answer = client.post("/populate?collection=shapes&yes=true", content=lines, headers=headers)
    assert answer.json()["changed"] == len(documents)
