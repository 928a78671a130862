"""Documents keep what they say in every layout, and payloads keep what is not the document's."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from diptych import Document, Registry
from diptych.adopt import LAYOUTS
from diptych.errors import DocumentError
from diptych.media import Media, MediaConfig, MediaStore
from diptych.metadata import payloads
from diptych.metadata.models import CollectionMetadata, State
from diptych.metadata.payloads import (
    NATIVE,
    Layout,
    find,
)
from diptych.metadata.store import metadata_of, metadata_payload

UUID = "0b0f4f0e-7c52-4c9a-93cf-9bb2f8f9a001"
FLAT = Layout(text="body", title="title", id="id", origin="by hand", integer_ids=True, own_points=True)
DEEP = Layout(text="doc.body.de", title="doc.head", id="doc.key", metadata="doc.more", origin="by hand")
EVERY = {**LAYOUTS, "diptych": NATIVE, "flat": FLAT, "deep": DEEP}


@pytest.fixture(params=EVERY)
def layout(request: pytest.FixtureRequest) -> Layout:
    return EVERY[request.param]


def random_document(seed: int) -> Document:
    random = np.random.default_rng(seed)

    def value(level: int) -> Any:
        kind = random.integers(0, 7 if level < 2 else 5)
        scalars = (int(random.integers(-5, 5)), float(random.normal()), f"wörd {seed}", bool(seed % 2), None)
        if kind < 5:
            return scalars[kind]
        inner = [value(level + 1) for _ in range(3)]
        return inner if kind == 5 else {f"k{n}": own for n, own in enumerate(inner)}

    identifier = [UUID, "17", f"doc/{seed}", f"{seed}.txt"][seed % 4]
    metadata = {f"key {n}" if n % 2 else f"key{n}": value(0) for n in range(seed % 6)}
    return Document(identifier, f"the text {seed}", f"a title {seed}" if seed % 3 else "", metadata)


@pytest.mark.parametrize("seed", range(24))
def test_a_document_survives_being_written_and_read(layout: Layout, seed: int, fakes: Registry) -> None:
    document = random_document(seed)
    point = layout.point_id(document, fakes)
    read = layout.as_written(document, point)
    assert (read.id, read.text) == (document.id, document.text)
    titled = dict(document.metadata) if layout.title or not document.title else {"title": document.title}
    if layout.origin == payloads.LLAMA_INDEX and document.title:
        titled = {"title": document.title}
    assert {**titled, **document.metadata} == read.metadata
    if layout.title and layout.origin != payloads.LLAMA_INDEX:
        assert read.title == document.title
    again = layout.as_written(read, point)
    assert (again, again.content_hash()) == (read, read.content_hash())


@pytest.mark.parametrize("seed", range(8))
def test_writing_again_keeps_what_is_not_the_documents(layout: Layout, seed: int, fakes: Registry) -> None:
    document = random_document(seed)
    point = layout.point_id(document, fakes)
    held = layout.write(document, "")
    if layout.metadata:
        held = {"blob": None, **held, "score": 3}
    assert layout.write(layout.as_written(document, point, held), "", held) == held


def test_fields_to_fetch_bring_title_text_and_id(layout: Layout, fakes: Registry) -> None:
    document = random_document(7)
    point = layout.point_id(document, fakes)
    payload = layout.write(document, "")
    whole = layout.read(point, payload)
    fetched: dict[str, Any] = {}
    for path in (*layout.text_fields(), *layout.id_fields()):  # paths, as a store takes them
        if payloads.has(payload, path):
            fetched = payloads.put(fetched, path, payloads.find(payload, path))
    read = layout.read(point, fetched)
    assert (read.id, read.title, read.text) == (whole.id, whole.title, whole.text)


def test_points_are_found_by_their_documents_ids(layout: Layout, fakes: Registry) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    documents = [Document(name, f"text of {name}") for name in ("17", UUID, "a/b", "4", "018")]
    points = [layout.point_id(document, fakes) for document in documents]
    payloads = [layout.write(document, "") for document in documents]
    client.upsert("c", models.Batch(ids=points, vectors=[[1.0]] * 5, payloads=payloads))
    found, _ = client.scroll("c", scroll_filter=layout.id_filter(["17", UUID, "a/b", "nope"]))
    read = {layout.read(record.id, record.payload).id: record.id for record in found}
    assert read == dict(zip(("17", UUID, "a/b"), points, strict=False))
    client.close()


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        (NATIVE, "text"),
        (FLAT, "body"),
        (FLAT, "_diptych"),
        (LAYOUTS["fastembed"], "document"),
        (LAYOUTS["llama-index"], "_node_content"),
        (LAYOUTS["llama-index"], "ref_doc_id"),
        (Layout(text="t", title="meta.title", id=None, metadata="meta", origin="by hand"), "title"),
    ],
)
def test_metadata_cannot_lie_upon_what_the_layout_needs(layout: Layout, key: str) -> None:
    with pytest.raises(DocumentError, match=f"metadata uses the reserved key {key!r}"):
        layout.write(Document("a", "text", metadata={key: "x"}), "")


def test_metadata_beneath_a_key_of_its_own_may_have_any_names() -> None:
    document = Document("a", "text", metadata={"page_content": 1, "text": 2, "_diptych": 3})
    assert LAYOUTS["langchain"].as_written(document, "p").metadata == document.metadata


def test_a_title_for_which_there_is_no_place_becomes_metadata_and_never_overwrites_any() -> None:
    layout = LAYOUTS["haystack"]
    assert layout.write(Document("a", "text", "head"), "")["meta"] == {"title": "head"}
    with pytest.raises(DocumentError, match="reserved key 'title'"):
        layout.write(Document("a", "text", "head", {"title": "other"}), "")


def test_what_others_wrote_without_ids_answers_with_its_point_id() -> None:
    assert LAYOUTS["langchain"].read(UUID, {"page_content": "x", "metadata": None}) == Document(UUID, "x")
    assert LAYOUTS["haystack"].read(4, None) == Document("4", "")
    assert FLAT.read(4, {"body": 3, "title": ["a"]}) == Document("4", "")


def test_point_ids_are_those_that_the_layouts_own_writer_would_choose(fakes: Registry) -> None:
    namespace = uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d")
    ids = {name: layout.point_id(Document("17", "x"), fakes) for name, layout in EVERY.items()}
    assert ids["haystack"] == str(uuid.uuid5(namespace, "17"))
    assert ids["langchain"] == ids["llama-index"] == ids["fastembed"] == ids["flat"] == 17
    assert ids["diptych"] == ids["deep"] != 17
    assert LAYOUTS["langchain"].point_id(Document(UUID, "x"), fakes) == UUID
    for other in ("017", UUID.upper(), UUID.replace("-", ""), "-1", str(2**64), "²"):
        assert isinstance(LAYOUTS["langchain"].point_id(Document(other, "x"), fakes), str)
        assert LAYOUTS["langchain"].as_written(Document(other, "x"), "p").id == other


def test_the_header_is_what_llama_index_encodes_before_the_text() -> None:
    metadata = {"a": 1, "deep": [1, 2], "file": "x.txt", "{value}": None}
    node: dict[str, Any] = {"metadata": metadata, "excluded_embed_metadata_keys": ["file"]}
    assert payloads.header(node) == "a: 1\ndeep: [1, 2]\n{value}: None"
    assert payloads.header({**node, "metadata_template": "<{key}={value}>", "metadata_separator": ""}).startswith(
        "<a=1>"
    )
    assert payloads.header({**node, "metadata_seperator": "; "}).startswith("a: 1; deep: ")
    assert payloads.header({}) == ""


def test_nodes_of_either_class_and_none_at_all() -> None:
    layout = LAYOUTS["llama-index"]
    resource = {"_node_content": json.dumps({"text_resource": {"text": "in a resource"}}), "_node_type": "Node"}
    assert layout.read(1, resource).text == "in a resource"
    written = layout.write(Document("1", "changed"), "", resource)
    assert written["_node_type"] == "Node"
    assert json.loads(written["_node_content"])["text_resource"] == {"text": "changed"}
    for broken in ("{", "[1]", 3, None):
        assert layout.read(1, {"_node_content": broken, "k": 1}) == Document("1", "", "", {"k": 1})


def test_keys_of_documents_become_keys_of_payloads() -> None:
    langchain = LAYOUTS["langchain"]
    assert [langchain.field(key) for key in ("text", "title", "section")] == [
        "page_content",
        "metadata.title",
        "metadata.section",
    ]
    assert [NATIVE.field(key) for key in ("text", "title", "section")] == ["text", "title", "section"]
    assert LAYOUTS["llama-index"].field("title") == "_node_content"


def test_a_document_that_loses_its_picture_loses_its_reference_too(tmp_path: Path) -> None:
    layout = Layout(text="page_content", title=None, id=None, metadata="metadata", origin="langchain")
    store = MediaStore(MediaConfig(), tmp_path)
    picture = store.take("image", np.zeros((2, 2, 3), np.uint8))
    point = "6f1f8b8c-59a3-4b2a-8d0e-1d1f0a6f7b11"
    before = layout.write(Document(point, "", media={"image": picture}), "", {"other": 1}, store)
    assert before["_diptych"].keys() == {"media", "textless"}
    after = layout.write(Document(point, "words"), "", before, store)
    assert after == {"other": 1, "metadata": {}, "page_content": "words"}


PHOTOS = Layout(text="body", title=None, id=None, origin="by hand", media={"image": "img.path"})
BENEATH = PHOTOS.model_copy(update={"metadata": "meta", "media": {"image": "meta.photo"}})
RED = Media("image", "red.png", "a" * 32, 3)


@pytest.fixture
def reader(tmp_path: Path) -> MediaStore:
    return MediaStore(MediaConfig(root=str(tmp_path)), tmp_path)


@pytest.mark.parametrize("layout", [PHOTOS, BENEATH], ids=["at the top", "beneath metadata"])
def test_the_key_that_names_a_picture_is_written_read_and_taken_away_with_it(
    layout: Layout, reader: MediaStore
) -> None:
    key = layout.media["image"]
    document = Document("1", "red", metadata={"n": 1}, media={"image": RED})
    payload = layout.write(document, "", {}, reader)
    assert find(payload, key) == "red.png"
    assert layout.read(1, payload) == document
    assert layout.as_written(document, 1, payload) == document
    without = layout.write(Document("1", "red", metadata={"n": 1}), "", payload, reader)
    assert find(without, key) is None
    assert layout.read(1, without).metadata == {"n": 1}


def test_a_key_whose_picture_has_no_reference_stays_metadata(reader: MediaStore) -> None:
    payload = {"body": "red", "img": {"path": "gone.png"}}
    document = PHOTOS.read(1, payload)
    assert document.metadata == {"img": {"path": "gone.png"}}
    assert find(PHOTOS.write(document, "", payload, reader), "img.path") == "gone.png"
    taken = Document("1", "red", metadata={"img": {"path": "x"}}, media={"image": RED})
    with pytest.raises(DocumentError, match=r"reserved key 'img\.path'"):
        PHOTOS.write(taken, "", {}, reader)


def test_metadata_of_layouts_without_media_are_as_older_releases_read_them() -> None:
    stored = metadata_payload(CollectionMetadata(live=State(slots={})))
    assert "media" not in stored["diptych"]["layout"]
    with_media = metadata_payload(CollectionMetadata(live=State(slots={}), layout=PHOTOS))
    assert metadata_of(with_media, "c").layout == PHOTOS
