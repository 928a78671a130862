from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

import diptych
from diptych import Document
from diptych.errors import PopulateError
from diptych.handle import CollectionHandle
from diptych.populate import Rejected, populate
from diptych.populate.store import PAGE

OpenHandle = Callable[..., CollectionHandle]
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 4}}


def corpus(*numbers: int) -> list[Any]:
    return [{"id": i, "text": f"words of number {i}"} for i in numbers]


def ids(client: QdrantBase) -> set[str]:
    found, _ = client.scroll("c", limit=100_000)
    return {(point.payload or {}).get("_diptych", {}).get("id", "foreign") for point in found}


def test_sync_deletes_what_is_gone_and_only_that(client: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(client, SLOTS), corpus(*range(20)))
    report = populate(open_handle(client, SLOTS), corpus(*range(5, 25)), sync=True)
    assert (report.deleted, report.unchanged, report.new) == (5, 15, 5)
    assert ids(client) == {str(i) for i in range(5, 25)}


def test_without_sync_nothing_is_deleted(client: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(client, SLOTS), corpus(*range(20)))
    assert populate(open_handle(client, SLOTS), corpus(1)).deleted == 0
    assert len(ids(client)) == 20


def test_sync_goes_through_more_points_than_one_page(memory: QdrantBase, open_handle: OpenHandle) -> None:
    size = 2 * PAGE + 7
    populate(open_handle(memory, SLOTS, chunk=1024), corpus(*range(size)))
    kept = range(0, size, 3)
    report = populate(open_handle(memory, SLOTS, chunk=1024), corpus(*kept), sync=True)
    assert report.deleted == size - len(kept)
    assert ids(memory) == {str(i) for i in kept}


def test_points_that_diptych_did_not_write_stay(client: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(client, SLOTS), corpus(1, 2))
    client.upsert("c", [models.PointStruct(id=7, vector={"dense.1": [1.0, 0.0, 0.0, 0.0]}, payload={"mine": 1})])
    assert populate(open_handle(client, SLOTS), corpus(1), sync=True).deleted == 1
    assert ids(client) == {"1", "foreign"}


def test_a_document_that_is_set_aside_is_not_gone(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory, SLOTS), corpus(1, 2, 3))
    report = populate(open_handle(memory, SLOTS), [*corpus(1), {"id": 2, "text": ""}], sync=True)
    assert (report.deleted, report.set_aside) == (1, 1)
    assert ids(memory) == {"1", "2"}


@pytest.mark.parametrize("unreadable", [{"id": None, "text": "x"}, Rejected("f:3", "not JSON"), 7])
def test_entries_without_a_readable_id_forbid_deleting(
    memory: QdrantBase, open_handle: OpenHandle, unreadable: Any
) -> None:
    populate(open_handle(memory, SLOTS), corpus(1, 2, 3))
    report = populate(open_handle(memory, SLOTS), [*corpus(1), unreadable], sync=True)
    assert report.deleted == 0
    (warning,) = report.warnings
    place = " (f:3)" if isinstance(unreadable, Rejected) else ""
    assert warning.startswith(f"nothing was deleted: 1 entry of the source{place} has no readable id")
    assert ids(memory) == {"1", "2", "3"}


def test_an_empty_source_deletes_nothing(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory, SLOTS), corpus(1, 2, 3))
    report = populate(open_handle(memory, SLOTS), iter(()), sync=True)
    assert report.warnings == ("nothing was deleted: the source is empty. To empty the collection, delete it.",)
    assert ids(memory) == {"1", "2", "3"}


def test_a_source_that_breaks_off_deletes_nothing(memory: QdrantBase, open_handle: OpenHandle) -> None:
    def breaking() -> Iterator[Any]:
        yield from corpus(1)
        raise OSError("connection lost")

    populate(open_handle(memory, SLOTS), corpus(1, 2, 3))
    with pytest.raises(PopulateError, match="the source broke off"):
        populate(open_handle(memory, SLOTS), breaking(), sync=True)
    assert ids(memory) == {"1", "2", "3"}


def test_a_document_whose_point_moved_leaves_no_old_copy(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory, SLOTS), corpus(1, 2, 3))
    report = populate(open_handle(memory, SLOTS, NumberedPoints()), corpus(1, 2, 3), sync=True)
    assert (report.new, report.deleted) == (3, 3)
    found, _ = memory.scroll("c", limit=10)
    assert [point.id for point in found] == [1, 2, 3]


class NumberedPoints:
    @diptych.hookimpl
    def diptych_point_id(self, document: Document) -> int:
        return int(document.id)
