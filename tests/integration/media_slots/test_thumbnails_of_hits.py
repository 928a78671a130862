"""Thumbnails that a collection stores are shown in notebooks; anything else in their place is not."""

from __future__ import annotations

import base64
import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from diptych import Collection, Document, Query, Registry
from diptych.config import parse_config
from diptych.errors import DiptychError
from diptych.metadata.payloads import stored_thumbnail

Made = Callable[..., dict[str, Any]]


def test_hits_have_the_thumbnails_that_are_stored(config: Made, documents: list[Document], colours: Registry) -> None:
    with Collection.open(parse_config(config(media={"store": "thumbnail"})), registry=colours) as collection:
        collection.populate(documents)
        found = collection.search("square corners", limit=10, pipeline="lexical")
        small = found.thumbnails()
        assert set(small) == {document.id for document in documents if document.media} & {hit.id for hit in found}
        assert max(Image.open(io.BytesIO(small["red"])).size) <= 96
        written = found._repr_html_()
        assert written.count('<img src="data:image/') == len(small) > 2
        assert base64.b64encode(small["red"]).decode() in written
        assert "<img" not in copy.copy(found)._repr_html_(), "a copy does not read from the store"
        by_picture = collection.search(Query(media={"image": "red.png"}), limit=1, pipeline="picture")
        assert "1 hit for “image: red.png”" in by_picture._repr_html_().replace("<bdi>", "").replace("</bdi>", "")
    with pytest.raises(DiptychError):
        found.thumbnails()
    assert "thumbnails cannot be read" in found._repr_html_()


def test_references_alone_have_none(config: Made, documents: list[Document], colours: Registry) -> None:
    with Collection.open(parse_config(config()), registry=colours) as collection:
        collection.populate(documents)
        found = collection.search("square", limit=10, pipeline="lexical")
        assert found.thumbnails() == {}
        assert "<img" not in found._repr_html_()
        assert "red.png" in found._repr_html_()


@pytest.mark.parametrize(
    "stored",
    [
        None,
        7,
        "",
        "no base64!",
        "ünicode",
        base64.b64encode(b"<svg onload=alert(1)>").decode(),
        base64.b64encode(b"<html><script>").decode(),
        base64.b64encode(b"GIF89a").decode(),
    ],
)
def test_what_another_program_wrote_there_is_no_thumbnail(stored: object) -> None:
    assert stored_thumbnail({"_diptych": {"media": {"image": {"thumbnail": stored}}}}) is None


def test_payloads_of_other_shapes_have_no_thumbnail() -> None:
    payloads: list[Any] = [
        None,
        {},
        {"_diptych": 1},
        {"_diptych": {"media": []}},
        {"_diptych": {"media": {"image": 1}}},
    ]
    for payload in payloads:
        assert stored_thumbnail(payload) is None
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    both = {"_diptych": {"media": {"image": {"thumbnail": "!"}, "video": {"thumbnail": png}}}}
    assert stored_thumbnail(both) == b"\x89PNG\r\n\x1a\n"
