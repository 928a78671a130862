"""Documents of LangChain, LlamaIndex and Haystack keep their pictures when they are found, edited and added again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack.document_stores.types import DuplicatePolicy
from langchain_core.documents import Document as Text
from llama_index.core.schema import TextNode

from diptych import Collection, Document, Registry
from diptych.errors import DocumentError
from diptych_adapters.haystack import DiptychDocumentStore
from diptych_adapters.haystack import DiptychRetriever as HaystackRetriever
from diptych_adapters.langchain import DiptychRetriever, DiptychVectorStore
from diptych_adapters.llama_index import DiptychVectorStore as NodeStore
from diptych_adapters.llama_index.nodes import hit_to_node

NEW = {"media": {"image": "green.png"}}  # as users give it


@pytest.fixture
def shapes(config: Callable[..., dict[str, Any]], colours: Registry, documents: list[Document]) -> Iterator[Collection]:
    with Collection.open(config(), registry=colours) as opened:
        opened.populate(documents)
        yield opened


def pictures_of(shapes: Collection) -> dict[str, str]:
    """The file of each document's picture."""
    found = {}
    for document in shapes.documents():
        for media in document.media.values():
            found[document.id] = getattr(media, "source", "")
    return found


def test_langchain(shapes: Collection) -> None:
    before, store = pictures_of(shapes), DiptychVectorStore(shapes)
    (got,) = store.get_by_ids(["half"])
    (hit,) = DiptychRetriever(collection=shapes, limit=1, explain=True).invoke("red")
    assert got.metadata["_diptych"]["media"]["image"]["source"] == "half.png"
    assert hit.metadata["_diptych"]["media"]["image"]["source"] == "red.png"
    hit.metadata["edited"] = True
    store.add_documents([got, hit, *store.get_by_ids(["note"])])
    assert pictures_of(shapes) == before
    assert shapes.get(["red"])[0].metadata == {"edited": True}
    first, second = store.add_documents([Text("", metadata={"_diptych": {"media": {"image": name}}}) for name in FILES])
    assert first != second
    assert {pictures_of(shapes)[first], pictures_of(shapes)[second]} == set(FILES)


FILES = ("green.png", "blue.png")


def test_llama_index(shapes: Collection) -> None:
    before, store = pictures_of(shapes), NodeStore(shapes)
    (got,) = store.get_nodes(["half"])
    (hit,) = (hit_to_node(found, "document", {"stages": {}}) for found in shapes.search("red", limit=1))
    for node in (got, hit):
        assert "image" in node.metadata["diptych"]["media"]
        assert node.excluded_llm_metadata_keys.count("diptych") == 1
    hit.metadata["edited"] = True
    store.add([got, hit])
    assert pictures_of(shapes) == before
    assert shapes.get(["red"])[0].metadata["edited"] is True
    store.add([TextNode(id_="new", text="", metadata={"diptych": NEW})])
    assert pictures_of(shapes)["new"] == "green.png"


def test_haystack(shapes: Collection) -> None:
    before, store = pictures_of(shapes), DiptychDocumentStore(shapes)
    got = [found for found in store.filter_documents() if found.id in ("half", "note")]
    hit = HaystackRetriever(store, top_k=1).run("red")["documents"][0]
    assert hit.meta["_diptych"]["media"]["image"]["source"] == "red.png"
    store.write_documents([*got, hit], DuplicatePolicy.OVERWRITE)
    assert pictures_of(shapes) == before
    store.write_documents([HaystackDocument(id="new", content="", meta={"_diptych": NEW})])
    assert pictures_of(shapes)["new"] == "green.png"


def test_media_that_no_one_wrote_are_refused(shapes: Collection) -> None:
    for media in ({"image": {"digest": "x"}}, {"smell": "red.png"}, {"image": "../../secret.png"}):
        with pytest.raises(DocumentError, match=r"this is not media in JSON form|unknown modality|media file"):
            DiptychVectorStore(shapes).add_documents([Text("x", id="x", metadata={"_diptych": {"media": media}})])
