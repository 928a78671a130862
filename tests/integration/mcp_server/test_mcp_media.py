"""Pictures of a language model's client: inline ones are searched and written, paths never."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import TextContent
from PIL import Image

import colour_plugin
import diptych_adapters.hooks
from colour_plugin import COLOURS, uri
from diptych import Collection, Document, Registry
from diptych_serve.agents import mcp_server
from diptych_serve.service.served import Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    registry = Registry(colour_plugin, diptych_adapters.hooks, installed=False)
    Image.new("RGB", (6, 6), COLOURS["red"]).save(tmp_path / "red.png")
    slots = {"words": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image"}}
    config = {"store": "memory:", "collection": "shapes", "slots": slots, "media": {"root": str(tmp_path)}}
    with Collection.open(config, registry=registry) as shapes:
        shapes.populate([Document("red", "a red square", media={"image": "red.png"})])
        yield Served([shapes], registry=registry)


def called(served: Served, tool: str, **arguments: Any) -> tuple[bool, Any]:
    """Whether it failed, and the structured answer or the text of the error."""

    async def run() -> Any:
        async with Client(mcp_server(served, allow_populate=True)) as client:
            return await client.call_tool(tool, arguments)

    answer = asyncio.run(run())
    (content,) = answer.content
    assert isinstance(content, TextContent)
    return answer.is_error, content.text if answer.is_error else answer.structured_content


def test_pictures_are_written_and_searched(served: Served) -> None:
    document = {"id": "blue", "text": "", "media": {"image": uri("blue")}}
    failed, written = called(served, "populate", documents=[document])
    assert not failed
    assert written["new"] == 1
    failed, found = called(served, "search", query="thing", media={"image": uri("blue")}, pipeline="picture")
    assert not failed
    assert found["hits"][0]["id"] == "blue"
    assert found["hits"][1]["media"]["image"]["source"] == "red.png"


@pytest.mark.parametrize("named", ["red.png", "/etc/hostname", "https://example.com/a.png"])
def test_no_path_and_no_address_is_taken(served: Served, named: str) -> None:
    media = {"image": named}
    for tool, arguments in (
        ("search", {"query": "thing", "media": media}),
        ("populate", {"documents": [{"id": "x", "text": "words", "media": media}]}),
    ):
        failed, text = called(served, tool, **arguments)
        assert failed
        assert "does not open files or addresses" in text
