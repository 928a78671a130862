"""Small pictures of documents: what is stored, else what is made from their bytes or files."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych import Collection, Document, Registry
from diptych.collection.documents import thumbnail_of
from diptych.errors import DiptychError
from diptych.metadata.payloads import picture_items
from diptych.search.store_calls import records_of

Config = Callable[..., dict[str, Any]]


def thumbnails(collection: Collection, *ids: str) -> dict[str, bytes]:
    found = dict[str, bytes]()
    for record in records_of(collection.handle.now(), ids, None, payload=True):
        payload = record.payload or {}
        for modality, item in picture_items(payload).items():
            with suppress(DiptychError):
                found[payload["_diptych"]["id"]] = thumbnail_of(collection.handle.media, modality, item)
    return found


@pytest.mark.parametrize("kept", ["reference", "thumbnail", "bytes"])
def test_a_thumbnail_comes_from_the_store_or_the_file(
    colours: Registry, config: Config, documents: list[Document], pictures: Path, kept: str
) -> None:
    with Collection.open(config(media={"store": kept}), registry=colours) as collection:
        collection.populate(documents)
    for name in ("red.png", "blue.png"):
        (pictures / name).unlink()
    Image.new("RGB", (24, 16), "white").save(pictures / "green.png")  # no longer the one that was indexed
    with Collection.open(config(media={"store": kept}), registry=colours) as collection:
        found = thumbnails(collection, "red", "yellow", "green", "note", "half", "unknown")
    gone = {"red", "green"} if kept == "reference" else set()
    assert found.keys() == {"red", "yellow", "green", "half"} - gone
    half = Image.open(io.BytesIO(found["half"])).convert("RGB")
    assert half.size == (16, 16)
    (red, _, blue), (lower_red, _, lower_blue) = half.getpixel((8, 3)), half.getpixel((8, 12))  # type: ignore[misc]
    assert (red > 200, blue < 60, lower_red < 60, lower_blue > 200) == (True,) * 4


def test_what_is_no_picture_is_not_taken_for_one(colours: Registry, config: Config, documents: list[Document]) -> None:
    with Collection.open(config(media={"store": "thumbnail"}), registry=colours) as collection:
        collection.populate(documents)
        page = "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="  # <script>alert(1)</script>
        points, _ = collection.client.scroll("shapes", limit=100, with_payload=True)
        for point in points:
            own = (point.payload or {})["_diptych"]
            if "media" in own:
                own["media"]["image"]["thumbnail"] = page if own["id"] == "red" else "?" if own["id"] == "blue" else 7
                collection.client.set_payload("shapes", {"_diptych": own}, [point.id], wait=True)
        assert thumbnails(collection, "red", "blue") == {}
