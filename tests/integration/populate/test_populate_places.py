"""What is set aside is named by its place, and a file that cannot be read does not stand against a sync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qdrant_client.client_base import QdrantBase

from diptych.handle import CollectionHandle
from diptych.populate import open_source, populate

OpenHandle = Callable[..., CollectionHandle]
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 4}}


def test_an_entry_without_an_id_is_named_by_file_and_line(
    memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 1, "text": "one"}\n\n{"text": "two"}\n{"id": null, "text": "three"}\n')
    populate(open_handle(memory, SLOTS), [{"id": 1, "text": "one"}])
    report = populate(open_handle(memory, SLOTS), open_source(path), sync=True)
    assert [entry.id for entry in report.examples] == ["c.jsonl:3", "c.jsonl:4"]
    (warning,) = report.warnings
    assert warning.startswith(
        "nothing was deleted: 2 entries of the source (the first: c.jsonl:3) have no readable id, so what is gone"
    )


def test_a_file_that_is_not_utf_8_keeps_its_old_point_and_lets_others_be_deleted(
    memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(f"words of {name}")
    populate(open_handle(memory, SLOTS), open_source(folder))
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "b.txt").unlink()
    report = populate(open_handle(memory, SLOTS), open_source(folder), sync=True)
    assert (report.deleted, report.set_aside, report.warnings) == (1, 1, ())
    assert [entry.id for entry in report.examples] == ["a.txt"]
    found, _ = memory.scroll("c", limit=10)
    assert {(point.payload or {})["_diptych"]["id"] for point in found} == {"a.txt", "c.txt"}
