"""What the tests of media share: pictures of plain colours, and collections of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import colour_plugin
import diptych_adapters.hooks
from colour_plugin import COLOURS
from diptych import Document, Registry
from named_server import emptied


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of rejected documents go into a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def colours() -> Registry:
    """The adapters that are delivered, and the encoders of colours."""
    return Registry(colour_plugin, diptych_adapters.hooks, installed=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with `red.png`, `green.png`, ... of plain colours, and `half.png`, red above blue."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (24, 16), colour).save(folder / f"{name}.png")
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8], half[8:] = COLOURS["red"], COLOURS["blue"]
    Image.fromarray(half).save(folder / "half.png")
    return folder


@pytest.fixture(params=["edge", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a config says of each store: an embedded one, and the server that DIPTYCH_TEST_SERVER names."""
    if request.param == "edge":
        yield {"store": f"edge:{tmp_path / 'store'}"}
        return
    with emptied("shapes", "thumbnail", "bytes") as settings:
        yield settings


@pytest.fixture
def config(pictures: Path, store: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A config with a slot of texts and one of pictures; sections replace those of the same name."""

    def made(**sections: Any) -> dict[str, Any]:
        slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image"}}
        media = {"root": str(pictures), **sections.pop("media", {})}
        swap = {"gate": {"unmeasured": 1}}
        given = {**store, "collection": "shapes", "slots": slots, "media": media, "swap": swap}
        return {**given, **sections}

    return made


@pytest.fixture
def documents() -> list[Document]:
    """A picture of each colour with a name, one without a text, and a text without a picture."""
    named = [Document(name, f"A {name} square", media={"image": f"{name}.png"}) for name in COLOURS]
    return [*named, Document("half", media={"image": "half.png"}), Document("note", "Squares have four corners")]
