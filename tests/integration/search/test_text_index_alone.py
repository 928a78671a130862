"""A collection whose only slot is Qdrant's own text index: no vectors at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Document, Registry
from diptych.config import parse_config
from diptych.errors import StoreUnsupported
from diptych.stores.versions import TEXT_INDEX, server_version
from diptych.testing import fakes_plugin
from named_server import emptied
from small_server import Routes

DOCUMENTS = [Document("a", "cats and dogs"), Document("b", "converting audio files"), Document("c", "birds")]


def test_documents_are_found_by_words_without_a_vector(tmp_path: Path) -> None:
    slots = {"words": {"adapter": "qdrant-text-index", "language": "english"}}
    config = parse_config({"store": f"edge:{tmp_path}/store", "collection": "c", "slots": slots})
    with Collection.open(config) as collection:
        assert collection.populate(DOCUMENTS).new == 3
        assert collection.populate(DOCUMENTS).unchanged == 3
        assert [hit.id for hit in collection.search("convert an audio file")] == ["b"]
        (explanation,) = collection.explain("convert an audio file")
        assert explanation.document == DOCUMENTS[1], "without the copy of the text that the index reads"
    with Collection.open(f"edge:{tmp_path}/store", "c") as again:
        assert [hit.id for hit in again.search("cat")] == ["a"]


SLOTS = {"words": {"adapter": "qdrant-text-index"}, "dense": {"adapter": "fake-dense", "dimension": 8}}
SEARCHES: dict[str, Callable[[Collection], Any]] = {
    "search": lambda c: c.search("cats", pipeline="words"),
    "config's pipeline": lambda c: c.search("cats"),
    "not blocking": lambda c: asyncio.run(c.asearch("cats", pipeline="words")),
    "groups": lambda c: c.search_groups("cats", group_by="kind", pipeline="words"),
    "explain": lambda c: c.explain("cats", pipeline="words"),
    "scores": lambda c: c.scores(["cats"], [["a"]], slot="words"),
}


@pytest.fixture(params=["small server", "server"])
def old(request: pytest.FixtureRequest, small_server: Callable[..., Routes]) -> Iterator[Collection]:
    """A collection on a server that knows no searches of text indexes."""
    registry = Registry(fakes_plugin)

    def opened(place: dict[str, Any]) -> Collection:
        return Collection.open(parse_config({**place, "collection": "old", "slots": SLOTS}), registry=registry)

    if request.param == "small server":
        with opened({"store": small_server(version="1.19.0").url}) as collection:
            collection.populate(DOCUMENTS)
            yield collection
        return
    with emptied("old") as place, opened(place) as collection:
        if (server_version(collection.client) or TEXT_INDEX) >= TEXT_INDEX:
            pytest.skip("this server searches text indexes")
        collection.populate(DOCUMENTS)
        yield collection


@pytest.mark.parametrize("search", list(SEARCHES))
def test_a_server_that_is_too_old_for_searches_of_a_text_index_is_refused_by_name(old: Collection, search: str) -> None:
    refusal = (
        r"(?s)cannot search a text index.*slot 'words'.*Qdrant 1\.\d+\.\d+.*1\.20 or newer.*update the server.*bm25"
    )
    with pytest.raises(StoreUnsupported, match=refusal):
        SEARCHES[search](old)
    assert len(old.search("cats", pipeline="dense", limit=3)) == 3
