"""Thumbnails: small pictures of what a collection holds, and nothing that a browser could run."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

import colour_plugin
import diptych_adapters.hooks
from colour_plugin import COLOURS, uri
from diptych import Collection, Document, Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio

SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (600, 300), COLOURS["red"]).save(found / "red.png")
    return found


@pytest.fixture(scope="module")
def shapes(folder: Path) -> Iterator[Collection]:
    registry = Registry(colour_plugin, diptych_adapters.hooks, installed=False)
    slots = {"words": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image"}}
    config = {"store": "memory:", "collection": "shapes", "slots": slots, "media": {"root": str(folder)}}
    with Collection.open(config, registry=registry) as made:
        made.populate([Document("red", "a red square", media={"image": "red.png"}), Document("words", "words alone")])
        yield made


@pytest.fixture(scope="module")
def client(shapes: Collection) -> TestClient:
    return TestClient(application(Served([shapes], registry=shapes.handle.registry), extension=studio()))


def test_a_hit_links_a_small_picture_that_is_made_of_its_file(client: TestClient) -> None:
    body = {"query": "red square"}
    hits = {hit["id"]: hit for hit in client.post("/studio/api/search", json=body).json()["hits"]}
    assert "name=image" in hits["red"]["thumbnail"]
    answer = client.get(f"/studio/api{hits['red']['thumbnail']}")
    assert answer.headers["content-type"] in ("image/png", "image/jpeg")
    assert max(Image.open(io.BytesIO(answer.content)).size) == 96
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_media_are_found_by_a_picture_sent_inline(client: TestClient) -> None:
    body = {"query": {"media": {"image": uri("red")}}, "side": "slot:picture"}
    answer = client.post("/studio/api/search", json=body)
    assert answer.json()["hits"][0]["id"] == "red"
    for route in ("snippets", "locate"):
        assert (
            client.post(f"/studio/api/{route}", json=body | ({"id": "red"} if route == "locate" else {})).status_code
            == 200
        )


def test_a_picture_whose_file_is_not_on_this_machine_is_none(shapes: Collection) -> None:
    registry = shapes.handle.registry
    elsewhere = Collection.open(shapes.client, "shapes", registry=registry)  # without the config's folder of media
    client = TestClient(application(Served([elsewhere], registry=registry), extension=studio()))
    answer = client.get("/studio/api/media", params={"id": "red"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_picture")


@pytest.mark.parametrize("id", ["words", "nobody"])
def test_where_there_is_no_picture_it_says_so(client: TestClient, id: str) -> None:
    answer = client.get("/studio/api/media", params={"id": id})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("stored", [SVG, b"<html><script>alert(1)</script>", b"\x89PNG\r\n\x1a\n" + b"x" * 2_000_000])
def test_a_thumbnail_that_somebody_else_stored_is_served_only_as_a_picture(
    client: TestClient, shapes: Collection, stored: bytes
) -> None:
    (record,) = shapes.client.retrieve("shapes", [hit.point for hit in shapes.search("red", limit=1) if hit.point])
    payload: Any = record.payload
    before = payload["_diptych"]
    media = {"image": {**before["media"]["image"], "thumbnail": base64.b64encode(stored).decode()}}
    shapes.client.set_payload("shapes", {"_diptych": {**before, "media": media}}, points=[record.id])
    try:
        assert client.get("/studio/api/media", params={"id": "red"}).status_code == 404
    finally:
        shapes.client.set_payload("shapes", {"_diptych": before}, points=[record.id])
