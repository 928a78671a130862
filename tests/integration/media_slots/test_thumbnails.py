"""Small pictures of documents: what is stored, else what is made from their bytes or files; terminals show them."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych import Collection, Document, Registry
from diptych.collection.documents import thumbnails

Config = Callable[..., dict[str, Any]]


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
        found = thumbnails(collection.handle, ["red", "yellow", "green", "note", "half", "unknown"])
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
        assert thumbnails(collection.handle, ["red", "blue"]) == {}


PROGRAM = """
import sys
from diptych.cli.app import app
from diptych.cli.run_command import Session
from diptych import Registry
import colour_plugin, diptych_adapters.hooks
app(sys.argv[1:], obj=Session(Registry(colour_plugin, diptych_adapters.hooks, installed=False)))
"""


@pytest.mark.parametrize(("colours_shown", "blocks"), [("truecolor", True), ("", False)])
def test_a_terminal_of_24_bit_colours_shows_them(
    tmp_path: Path, pictures: Path, colours: Registry, documents: list[Document], colours_shown: str, blocks: bool
) -> None:
    slots = {"picture": {"adapter": "colours", "of": "image"}}
    config = {"store": f"edge:{tmp_path / 'db'}", "collection": "shapes", "slots": slots}
    with Collection.open({**config, "media": {"root": str(pictures)}}, registry=colours) as collection:
        collection.populate(documents[:3])
    (tmp_path / "diptych.yaml").write_text(
        f"store: edge:{tmp_path / 'db'}\ncollection: shapes\nmedia: {{root: {pictures}}}\n"
        "slots: {picture: {adapter: colours, of: image}}\n"
    )
    answer = _in_a_terminal(tmp_path, ["search", "red", "--limit", "1"], colours_shown)
    assert "A red square" in answer
    assert ("▀" in answer, "red.png" in answer) == (blocks, not blocks)
    if blocks:
        red = [tuple(map(int, found)) for found in re.findall(r"38;2;(\d+);(\d+);(\d+)", answer)]
        assert red
        assert all(r > 200 and max(g, b) < 60 for r, g, b in red)


def _in_a_terminal(folder: Path, words: list[str], colours_shown: str) -> str:
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    support = Path(__file__).parents[2] / "support"
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": colours_shown, "COLUMNS": "80"}
    environment["PYTHONPATH"] = os.pathsep.join([str(support), *sys.path])
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=child, cwd=folder, env=environment)
    os.close(child)
    written = b""
    try:
        while piece := os.read(parent, 65536):
            written += piece
    except OSError:  # the terminal has no writer any more
        pass
    os.close(parent)
    assert process.wait() == 0
    return written.decode()
