"""LlamaIndex's nodes with pictures and sounds are documents with media, come back, and queries may be pictures."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("llama_index.core")

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, QueryBundle, TextNode

import diptych
from colour_plugin import COLOURS
from diptych import Collection, Registry
from diptych.errors import DocumentError
from diptych.search import Retrieve
from diptych_adapters.llama_index import DiptychRetriever, DiptychVectorStore

Made = Callable[..., dict[str, Any]]
PICTURE = Retrieve("picture")


def tone(pitch: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((20000 * np.sin(2 * np.pi * pitch * np.arange(8000) / 8000)).astype("<i2").tobytes())
    return file.getvalue()


def dumped(node: Any) -> Any:
    """Class, fields and bytes of a node, without the details that reading it adds."""
    node = node.model_copy(deep=True)
    if node.metadata.pop("diptych", None):
        node.excluded_embed_metadata_keys.remove("diptych")
        node.excluded_llm_metadata_keys.remove("diptych")
    return type(node), node.model_dump(), {name: own.data for name, own in vars(node).items() if hasattr(own, "data")}


@pytest.fixture
def slots() -> dict[str, Any]:
    pictures = {"adapter": "colours", "of": "image"}
    return {"lexical": {"adapter": "bm25"}, "picture": pictures, "tone": {"adapter": "pitches", "of": "sound"}}


@pytest.fixture
def nodes(pictures: Path) -> list[Any]:
    half = base64.b64encode((pictures / "half.png").read_bytes()).decode()
    sound = MediaResource(data=tone(440), mimetype="audio/wav")
    return [
        *(ImageNode(id_=name, image_path=f"{name}.png", text=f"a {name}", metadata={"n": 1}) for name in COLOURS),
        ImageNode(id_="half", image=half, metadata={"page": 2}),
        ImageDocument(id_="absolute", image_path=str(pictures / "half.png"), text="from a file"),
        Node(id_="both", text_resource=MediaResource(text="a tone"), audio_resource=sound),
        Node(id_="bytes", image_resource=MediaResource(data=(pictures / "red.png").read_bytes())),
        TextNode(id_="note", text="four corners"),
    ]


@pytest.fixture
def collection(config: Made, colours: Registry, slots: dict[str, Any]) -> Any:
    with Collection.open(config(media={"store": "bytes"}, slots=slots), registry=colours) as opened:
        yield opened


def test_nodes_come_back_as_they_went_in(collection: Collection, nodes: list[Any]) -> None:
    store = DiptychVectorStore(collection)
    ids = store.add(nodes)
    for given, found in zip(nodes, store.get_nodes(ids), strict=True):
        assert dumped(found) == dumped(given)
    kinds = {document.id: list(document.media) for document in collection.documents()}
    assert (kinds.pop("both"), kinds.pop("note")) == (["sound"], [])
    assert kinds == {name: ["image"] for name in [*COLOURS, "half", "absolute", "bytes"]}
    before = list(collection.get(ids))
    store.add(store.get_nodes(ids))
    assert collection.get(ids) == before


def test_a_picture_finds_nodes_and_what_is_found_can_be_added_again(collection: Collection, nodes: list[Any]) -> None:
    store = DiptychVectorStore(collection)
    ids = store.add(nodes)
    before = collection.get(ids)
    retriever = DiptychRetriever(collection, similarity_top_k=3, pipeline=PICTURE, explain=True)
    found = retriever.retrieve(QueryBundle("", image_path="blue.png"))
    assert found[0].node.node_id == "blue"
    assert found[0].node.metadata["diptych"]["explanation"]
    mixed = asyncio.run(retriever.aretrieve(QueryBundle("red", image_path="half.png")))
    assert {own.node.node_id for own in mixed} <= {"half", "absolute", "bytes", "red"}
    everything = DiptychRetriever(collection, similarity_top_k=9, pipeline=PICTURE).retrieve(
        QueryBundle("", image_path="half.png")
    )
    by_id = {own.node.node_id: own.node for own in everything}
    assert by_id["half"].metadata["diptych"]["media"]["image"]["bytes"], (
        "bytes stay in the store, and a reference comes"
    )
    store.add([own.node for own in everything])
    assert collection.get(ids) == before


def test_an_index_inserts_nodes_without_text(collection: Collection, nodes: list[Any]) -> None:
    store = DiptychVectorStore(collection)
    index = VectorStoreIndex.from_vector_store(store, embed_model=store.embed_model)
    index.insert_nodes([node for node in nodes if node.node_id in ("half", "red")])
    assert {document.id for document in collection.documents()} == {"half", "red"}


def test_pictures_of_other_doors_are_image_nodes_that_can_be_opened(
    collection: Collection, documents: list[diptych.Document], pictures: Path
) -> None:
    collection.populate(documents)
    store = DiptychVectorStore(collection)
    (red,) = store.get_nodes(["red"])
    assert isinstance(red, ImageNode)
    assert Path(str(red.resolve_image())).read_bytes() == (pictures / "red.png").read_bytes()
    store.add([red])
    assert collection.populate(documents).unchanged == len(documents)


def test_media_that_cannot_be_read_reject_their_node(collection: Collection) -> None:
    store = DiptychVectorStore(collection)
    with pytest.raises(DocumentError, match="1 of 1 nodes cannot be indexed"):
        store.add([ImageNode(id_="a", image_path="absent.png")])
    with pytest.raises(DocumentError, match="not base64"):
        store.add([ImageNode(id_="b", image="no base64!")])


def test_without_slots_for_media_nodes_are_stored_as_before(config: Made, colours: Registry, nodes: list[Any]) -> None:
    with Collection.open(config(slots={"lexical": {"adapter": "bm25"}}), registry=colours) as texts:
        store = DiptychVectorStore(texts)
        store.add(nodes[:1])
        assert dumped(store.get_nodes(["red"])[0]) == dumped(nodes[0])
        assert texts.get(["red"])[0].media == {}
