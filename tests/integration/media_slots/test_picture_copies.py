"""Pictures in copies and restored exports, and their bytes, which searches leave in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from colour_plugin import COLOURS
from diptych import Collection, Document, Query, Registry
from diptych.copying import copy_collection
from diptych.media import Media
from diptych.search import Retrieve

Made = Callable[..., dict[str, Any]]


@pytest.fixture
def made(config: Made, colours: Registry) -> Any:
    """Opens collections, and closes them at the end."""
    opened: list[Collection] = []

    def open_one(**sections: Any) -> Collection:
        opened.append(Collection.open(config(**sections), registry=colours))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def fetched(monkeypatch: pytest.MonkeyPatch, client: QdrantBase) -> list[str]:
    """The payloads, as JSON, that the client's calls return from now on."""
    seen: list[str] = []

    def watch(name: str) -> None:
        original = getattr(client, name)

        def call(*args: Any, **options: Any) -> Any:
            answer = original(*args, **options)
            seen.append(str(answer))
            return answer

        monkeypatch.setattr(client, name, call)

    for name in ("query_batch_points", "query_points", "retrieve", "scroll", "query_points_groups"):
        watch(name)
    return seen


@pytest.mark.parametrize("kept", ["bytes", "thumbnail"])
def test_searches_and_unchanged_documents_do_not_fetch_what_is_stored_of_pictures(
    made: Any, documents: list[Document], monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    shapes = made(media={"store": kept})
    shapes.populate(documents)
    key = "data" if kept == "bytes" else "thumbnail"
    point: Any = shapes.client.scroll("shapes")[0]
    stored = {p.payload["_diptych"]["media"]["image"][key] for p in point if "media" in p.payload["_diptych"]}
    assert len(stored) == len(COLOURS) + 1
    seen = fetched(monkeypatch, shapes.client)
    for options in ({}, {"with_payload": False}, {"with_payload": ["text"]}, {"pin": ["half"]}):
        (hit, *_) = shapes.search(Query(media={"image": "red.png"}), pipeline=Retrieve("picture"), **options)
        found: Any = hit.document.media["image"]
        assert (found.source, found.data) == (f"{hit.id}.png", None)
    assert shapes.search_groups("square", group_by="text")
    assert shapes.explain("red square")
    assert shapes.populate(documents).unchanged == len(documents)
    assert shapes.delete(["half"]) == 1
    assert seen
    assert not [answer for answer in seen for own in stored if own in answer]
    (red,) = shapes.get(["red"])
    assert isinstance(red.media["image"], Media)
    assert (red.media["image"].data is not None) == (kept == "bytes")


@pytest.mark.parametrize("kept", ["reference", "thumbnail", "bytes"])
def test_copies_keep_the_pictures(
    made: Any, documents: list[Document], tmp_path: Path, pictures: Path, kept: str, colours: Registry
) -> None:
    held = (pictures / "half.png").read_bytes()
    shapes = made(media={"store": kept})
    shapes.populate([*documents, Document("bytes", media={"image": held})])
    copy_collection(shapes.client, "shapes", shapes.client, "thumbnail")  # names that a server forgets after a test
    original = {own.id: own for own in shapes.documents()}
    shapes.close()
    other = made(collection="thumbnail")
    assert {own.id: own for own in other.documents()} == original
    found: Any = {own.id: own.media["image"] for own in other.documents() if own.media}
    assert found["red"].source == "red.png"
    assert found["bytes"].data == (held if kept == "bytes" else None)
    assert other.search(Query(media={"image": "blue.png"}), pipeline=Retrieve("picture"), limit=1)[0].id == "blue"
