"""Populate awaited: the event loop goes on, documents may come from it, and a cancelled task ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Document
from diptych.errors import PopulateError


def document(number: int) -> Document:
    return Document(str(number), f"word{number % 17} number{number}")


async def coming(size: int, pause: float = 0.0) -> AsyncIterator[Document]:
    for number in range(size):
        await asyncio.sleep(pause)
        yield document(number)


@pytest.fixture
def collection(memory: QdrantBase, open_handle: Any) -> Collection:
    return Collection(open_handle(memory))


def test_documents_of_an_event_loop_are_what_a_list_of_them_is(collection: Collection) -> None:
    report = asyncio.run(collection.apopulate(coming(150)))
    assert (report.read, report.new, collection.count()) == (150, 150, 150)
    assert asyncio.run(collection.apopulate([document(n) for n in range(150)], sync=True)).unchanged == 150
    assert asyncio.run(collection.apopulate((document(n) for n in range(140)), sync=True)).deleted == 10


def test_the_event_loop_goes_on_meanwhile(collection: Collection) -> None:
    async def both() -> int:
        beats = 0
        work = asyncio.create_task(collection.apopulate(coming(100, pause=0.002)))
        while not work.done():
            await asyncio.sleep(0.005)
            beats += 1
        return beats if (await work).new == 100 else 0

    assert asyncio.run(both()) > 5


def test_a_source_that_breaks_is_told_as_ever(collection: Collection) -> None:
    async def broken() -> AsyncIterator[Document]:
        yield document(1)
        raise OSError("the feed is gone")

    with pytest.raises(PopulateError, match=r"(?s)reading the source failed.*OSError: the feed is gone"):
        asyncio.run(collection.apopulate(broken()))


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_cancelled_task_ends_the_run_and_what_was_written_is_kept(collection: Collection, asynchronous: bool) -> None:
    asyncio.run(collection.apopulate([document(0)]))

    async def cancelled() -> None:
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def endless() -> AsyncIterator[Document]:
            async for one in coming(100_000):
                if one.id == "500":
                    reached.set()
                yield one

        def growing() -> Iterator[Document]:
            for number in range(100_000):
                if number == 500:
                    loop.call_soon_threadsafe(reached.set)
                yield document(number)

        work = asyncio.create_task(collection.apopulate(endless() if asynchronous else growing()))
        await reached.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    kept = collection.count()
    assert 1 <= kept < 100_000
    report = asyncio.run(collection.apopulate([document(number) for number in range(kept)]))
    assert report.unchanged + report.new == kept


def test_what_is_no_source_is_refused(collection: Collection) -> None:
    wrong: Any = {"id": "1", "text": "a document alone"}
    with pytest.raises(PopulateError, match="the source is not an iterable of documents"):
        asyncio.run(collection.apopulate(wrong))
