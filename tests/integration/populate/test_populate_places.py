"""What is rejected is named by its place, and a file that cannot be read does not stand against a sync."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qdrant_client.client_base import QdrantBase

from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
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
        "nothing was deleted: 2 entries of the source (the first: c.jsonl:3) have no readable id, so it is unclear"
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


def test_cells_of_a_csv_file_are_text_where_the_collection_compares_texts(
    memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("id,text,year,code,customer\n1,one,1897,17,42\n")
    raw = {
        "collection": "c",
        "slots": SLOTS,
        "populate": {"indexes": {"code": "keyword", "year": "integer"}},
        "tenant": {"field": "customer"},
    }
    handle = CollectionHandle(memory, "c", Config.model_validate(raw), open_handle(memory, SLOTS).registry)
    assert populate(handle, open_source(tmp_path / "t.csv")).set_aside == 0
    ((found,), _) = memory.scroll("c", limit=10)
    kept = {key: (found.payload or {})[key] for key in ("year", "code", "customer")}
    assert kept == {"year": 1897, "code": "17", "customer": "42"}
