from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

import diptych
from diptych import Document
from diptych.errors import PopulateError, SyncRefused
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import Rejected, populate
from diptych.populate.sync import most_deleted

OpenHandle = Callable[..., CollectionHandle]
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 4}}


def corpus(*numbers: int) -> list[Any]:
    return [{"id": i, "text": f"words of number {i}"} for i in numbers]


def ids(client: QdrantBase) -> set[str]:
    found, _ = client.scroll("c", limit=100_000)
    return {(point.payload or {}).get("_diptych", {}).get("id", "foreign") for point in found}


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
    with pytest.raises(PopulateError, match="reading the source failed"):
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


@pytest.mark.parametrize("once", [False, True], ids=["a source that can be read again", "one that cannot"])
def test_a_wrong_source_is_refused_before_anything_is_written_or_deleted(
    client: QdrantBase, open_handle: OpenHandle, contents: Callable[[QdrantBase], Any], once: bool
) -> None:
    populate(open_handle(client, SLOTS), corpus(*range(40)))
    before = contents(client)
    wrong = corpus(3, *range(1000, 1300))  # more than the collection has, so that a share of the sum would be small
    with pytest.raises(SyncRefused, match=r"39 of 40 documents") as caught:
        populate(open_handle(client, SLOTS), iter(wrong) if once else wrong, sync=True)
    assert contents(client) == before
    error = caught.value
    assert (error.context["deleted"], error.context["held"], error.context["max_deleted"]) == (39, 40, 0.2)
    examples: Any = error.context["examples"]
    assert len(examples) == 5
    assert set(examples) < {str(i) for i in range(40)} - {"3"}
    assert all(repr(identifier) in error.got for identifier in examples)
    assert "at most 8 of 40" in error.expected
    with pytest.raises(SyncRefused) as all_gone:
        populate(open_handle(client, SLOTS), wrong[1:], sync=True)
    assert "no id of the source is in the collection" in all_gone.value.__notes__[0]


def test_a_source_that_loses_its_documents_between_two_readings_deletes_nothing(
    memory: QdrantBase, open_handle: OpenHandle
) -> None:
    class Shrinking:
        readings = 0

        def __iter__(self) -> Iterator[Any]:
            self.readings += 1  # when the first document is asked for
            yield from corpus(*range(20)) if self.readings == 1 else corpus(1, 77)

    populate(open_handle(memory, SLOTS), corpus(*range(20)))
    with pytest.raises(SyncRefused, match="19 of 20"):
        populate(open_handle(memory, SLOTS), Shrinking(), sync=True)
    assert ids(memory) == {str(i) for i in [*range(20), 77]}


@pytest.mark.parametrize(
    ("held", "share", "most"),
    [
        (8000, 0.2, 1600),
        (100, 0.29, 29),  # 0.29 * 100 is 28.999999999999996
        (4, 0.2, 1),
        (2, 0.2, 1),
        (1, 0.2, 0),
        (0, 0.2, 0),
        (1, 1, 1),
        (1000, 0, 0),
        (9, 1.0, 9),
    ],
)
def test_a_single_document_of_several_may_always_go(held: int, share: float, most: int) -> None:
    assert most_deleted(held, share) == most


def test_the_config_says_how_many_may_go(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory, SLOTS), corpus(*range(10)))
    with pytest.raises(SyncRefused):
        populate(open_handle(memory, SLOTS, max_deleted=0), corpus(*range(9)), sync=True)
    assert populate(open_handle(memory, SLOTS, max_deleted=0.6), corpus(*range(4)), sync=True).deleted == 6


@pytest.mark.parametrize("share", [-0.1, 1.5, 20, float("nan"), True])
def test_a_share_that_is_none_is_refused(memory: QdrantBase, open_handle: OpenHandle, share: Any) -> None:
    with pytest.raises(PopulateError, match="max_deleted is not a share"):
        populate(open_handle(memory, SLOTS), corpus(1), sync=True, max_deleted=share)


class TestDryRun:
    def test_of_a_collection_that_is_not_there_everything_is_new_and_it_stays_away(
        self, client: QdrantBase, open_handle: OpenHandle
    ) -> None:
        slots = {**SLOTS, "lexical": {"adapter": "fake-calibrated"}}
        report = populate(open_handle(client, slots), corpus(1, 2, 1), sync=True, dry_run=True)
        assert (report.read, report.new, report.duplicates, report.deleted) == (3, 2, 1, 0)
        assert not client.collection_exists("c")

    def test_it_loads_no_encoder(self, memory: QdrantBase, open_handle: OpenHandle) -> None:
        slots = {"dense": {"adapter": "fake-dense", "dimension": 4}, "words": {"adapter": "fake-calibrated"}}
        populate(open_handle(memory, slots), corpus(1, 2))
        for source in (corpus(1, 3), iter(corpus(1, 3))):
            handle = open_handle(memory, slots)
            assert populate(handle, source, sync=True, dry_run=True).new == 1
            assert not any(slot.loaded for slot in handle.slots.values())

    def test_it_says_when_the_sync_would_be_refused(self, memory: QdrantBase, open_handle: OpenHandle) -> None:
        populate(open_handle(memory, SLOTS), corpus(*range(10)))
        report = populate(open_handle(memory, SLOTS), corpus(1, 11), sync=True, dry_run=True)
        assert report.deleted == 9
        assert report.warnings == ("the sync would be refused: at most 2 of 10 deleted, max_deleted 0.2",)

    def test_the_report_of_a_run_before_stays(
        self, memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
    ) -> None:
        report = populate(open_handle(memory, SLOTS), [{"id": 1, "text": ""}, *corpus(2)])
        populate(open_handle(memory, SLOTS), corpus(2), dry_run=True)
        assert Path(report.report_file).exists()
