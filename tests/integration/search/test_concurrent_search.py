"""Callers at the same time get what each would get alone, in every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from diptych.collection.collection import Collection
from diptych.config.models import Config
from diptych.errors import CollectionNotFound, ContractError, DiptychError, SearchError
from diptych.registry import Registry
from diptych.types import Document, Hit

Open = Callable[[Mapping[str, Any]], Collection]
SLOTS = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated"}}


def ranking(hits: list[Hit]) -> list[tuple[str, str, Any]]:
    return [(hit.id, hit.document.text, pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def test_a_query_that_fails_fails_alone(opened: Open, documents: list[Document]) -> None:
    slots = {"dense": {"adapter": "fake-dense", "nan_word": "broken"}}
    collection = opened({"slots": slots})
    collection.populate(documents)

    async def together() -> list[Any]:
        asked = ["word1", "broken", "word2", " ", "word3"]
        return await asyncio.gather(*map(collection.asearch, asked), return_exceptions=True)

    found = asyncio.run(together())
    assert [len(hits) for hits in (found[0], found[2], found[4])] == [10, 10, 10]
    assert isinstance(found[1], ContractError)
    assert isinstance(found[3], SearchError)
    assert "a query is empty" in str(found[3])


def test_a_caller_who_gives_up_leaves_the_others_alone(filled: Collection, queries: list[str]) -> None:
    async def together() -> list[Any]:
        tasks = [asyncio.create_task(filled.asearch(query)) for query in queries * 3]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(together())
    assert isinstance(found[1], asyncio.CancelledError)
    assert all(len(hits) == 10 for n, hits in enumerate(found) if n != 1)


def test_after_the_end_every_way_says_so(fakes: Registry, documents: list[Document], tmp_path: Path) -> None:
    config = Config.model_validate({"store": f"edge:{tmp_path}", "collection": "c", "slots": SLOTS})
    collection = Collection.open(config, registry=fakes)
    collection.populate(documents)
    asyncio.run(collection.asearch("word1"))
    ways: list[Callable[[], object]] = [
        lambda: collection.search("word2"),
        lambda: asyncio.run(collection.asearch("word2")),
    ]
    collection.client.delete_collection("c")
    for ask in ways:
        with pytest.raises(CollectionNotFound, match="there is no collection"):
            ask()
    collection.close()
    for ask in ways:
        with pytest.raises(DiptychError, match="the embedded store is closed"):
            ask()


@pytest.mark.parametrize(("remember", "encoded"), [(1024, 1), (0, 3)])
def test_a_query_that_is_asked_again_is_encoded_once_unless_nothing_is_remembered(
    opened: Open, documents: list[Document], remember: int, encoded: int
) -> None:
    collection = opened({"slots": {"dense": {"adapter": "fake-dense"}}, "search": {"remember": remember}})
    collection.populate(documents)
    encoder = collection.handle.slot("dense").encoder
    before = encoder.count
    first, *others = [ranking(collection.search("word1 word2")) for _ in range(3)]
    assert all(hits == first for hits in others), (first, others)
    assert encoder.count - before == encoded
