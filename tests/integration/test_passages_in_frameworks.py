"""Passages and highlights through LangChain, LlamaIndex and Haystack: beside a document's text, or in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from diptych import Collection, Registry
from diptych.errors import DocumentError
from diptych.testing import fakes_plugin
from diptych_adapters.frameworks import Content
from long_documents import QUERY, SENTENCES, SLOTS, manuals


class Found(NamedTuple):
    """What a framework found: its text, what the search says of it, and the framework's own object."""

    text: str
    details: dict[str, Any]
    own: Any


class LangChain:
    package = "langchain_qdrant"

    def answers(self, long: Collection, limit: int, content: Content, **shown: Any) -> Iterable[Sequence[Found]]:
        bridge = import_module("diptych_adapters.langchain")
        store = bridge.DiptychVectorStore(long, content=content)
        retriever = bridge.DiptychRetriever(collection=long, limit=limit, content=content, **shown)
        by_call = {"k": limit, "content": content, **shown}
        for answer in (
            store.similarity_search(QUERY, limit, **shown),
            asyncio.run(store.asimilarity_search(QUERY, limit, **shown)),
            bridge.DiptychVectorStore(long).as_retriever(search_kwargs=by_call).invoke(QUERY),
            retriever.invoke(QUERY),
            asyncio.run(retriever.ainvoke(QUERY, explain=True)),
        ):
            yield [Found(own.page_content, own.metadata["_diptych"], own) for own in answer]

    def write(self, long: Collection, own: list[Any]) -> None:
        import_module("diptych_adapters.langchain").DiptychVectorStore(long).add_documents(own)


class LlamaIndex:
    package = "llama_index.core"

    def answers(self, long: Collection, limit: int, content: Content, **shown: Any) -> Iterable[Sequence[Found]]:
        bridge = import_module("diptych_adapters.llama_index")
        retriever = bridge.DiptychRetriever(long, similarity_top_k=limit, content=content, explain=True, **shown)
        for answer in (retriever.retrieve(QUERY), asyncio.run(retriever.aretrieve(QUERY))):
            yield [Found(own.node.text, own.node.metadata["diptych"], own.node) for own in answer]

    def write(self, long: Collection, own: list[Any]) -> None:
        import_module("diptych_adapters.llama_index").DiptychVectorStore(long).add(own)


class Haystack:
    package = "haystack"

    def answers(self, long: Collection, limit: int, content: Content, **shown: Any) -> Iterable[Sequence[Found]]:
        bridge = import_module("diptych_adapters.haystack")
        store = bridge.DiptychDocumentStore(long)
        explain = content == "passage"  # an explanation is a document's own once it is written
        retriever = bridge.DiptychRetriever(store, top_k=limit, content=content, explain=explain, **shown)
        for answer in (retriever.run(QUERY), asyncio.run(retriever.run_async(QUERY))):
            yield [Found(own.content, own.meta["_diptych"], own) for own in answer["documents"]]

    def write(self, long: Collection, own: list[Any]) -> None:
        import_module("diptych_adapters.haystack").DiptychDocumentStore(long).write_documents(own)


@pytest.fixture(params=[LangChain, LlamaIndex, Haystack], ids=lambda bridge: bridge.package)
def bridge(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(request.param.package)
    return request.param()


@pytest.fixture(params=["memory:", "edge:"])
def long(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.chdir(tmp_path)
    store = f"edge:{tmp_path / 'qdrant'}" if request.param == "edge:" else request.param
    config = {"store": store, "collection": "things", "slots": SLOTS}
    with Collection.open(config, registry=Registry(fakes_plugin)) as collection:
        collection.populate(manuals())
        yield collection


def test_a_document_holds_its_passages_and_can_be_added_again(long: Collection, bridge: Any) -> None:
    before = list(long.documents())
    wanted = [
        (hit.document.text, [(p.start, p.end, p.text) for p in hit.passages]) for hit in long.search(QUERY, limit=2)
    ]
    for answer in bridge.answers(long, 2, "document"):
        passages = [[(p["start"], p["end"], p["text"]) for p in found.details["passages"]] for found in answer]
        assert [*zip((found.text for found in answer), passages, strict=True)] == wanted
        bridge.write(long, [found.own for found in answer])
    assert list(long.documents()) == before


def test_the_best_passage_alone_is_the_text_and_does_not_replace_its_document(long: Collection, bridge: Any) -> None:
    best = long.search(QUERY, limit=1)[0].passages[0]
    assert SENTENCES["sox"] in best.text
    for (found,) in bridge.answers(long, 1, "passage"):
        place = found.details["passage"]
        assert (found.text, place["id"], place["start"], place["end"]) == (best.text, "sox", best.start, best.end)
        with pytest.raises(DocumentError, match="this is a passage of a document"):
            bridge.write(long, [found.own])


@pytest.mark.parametrize("content", ["document", "passage"])
def test_highlights_are_told_and_not_stored(long: Collection, bridge: Any, content: Content) -> None:
    before, (hit,) = list(long.documents()), long.search(QUERY, limit=1)
    for (found,) in bridge.answers(long, 1, content, highlight=True):
        highlight = found.details["highlight"]
        assert highlight["sentence"]["text"] == SENTENCES["sox"]
        assert [hit.document.text[start:end] for start, end in highlight["words"]] == ["convert", "audio", "files"]
        if content == "document":
            bridge.write(long, [found.own])
    assert list(long.documents()) == before
