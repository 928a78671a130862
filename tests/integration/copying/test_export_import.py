"""A collection goes through a file and comes back equal, and what a file has that is no point is rejected."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.config.models import Config
from diptych.copying import export_collection, import_collection
from diptych.copying.target_collection import copied_metadata
from diptych.errors import CollectionError, CopyError, TenantError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import open_source, populate
from diptych.search import Retrieve, search
from diptych.testing import fakes_plugin

from .conftest import DOCUMENTS, SLOTS, AssertSame, Fill

FORMATS = ["c.jsonl", "c.jsonl.gz", "c.parquet"]
Stores = Callable[..., QdrantBase]


def answers(handle: CollectionHandle, queries: list[str], **options: Any) -> list[Any]:
    return search(handle, queries, **options)


def tenants() -> Any:
    raw = {
        "collection": "c",
        "slots": {**SLOTS, "words": {"adapter": "qdrant-text-index"}},
        "tenant": {"field": "customer"},
        "populate": {"indexes": {"section": "integer", "title": "text"}},
    }
    documents = [{**one, "customer": "ab"[n % 2], "title": "Ünïcode\u2028 title"} for n, one in enumerate(DOCUMENTS)]
    return Config.model_validate(raw), documents, Registry(fakes_plugin)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kinds", [("edge", "memory"), ("memory", "edge"), ("server", "server")])
def test_an_imported_collection_equals_the_one_that_was_exported(
    open_client: Stores, assert_same: AssertSame, registry: Registry, fill: Fill, kinds: tuple[str, str], name: str
) -> None:
    pytest.importorskip("pyarrow")
    source, target = open_client(kinds[0], "one"), open_client(kinds[1], "two")
    handle = fill(source)
    plain: Any = {"dense.1": [1.0] + [0.0] * 15}
    source.upsert("c", [models.PointStruct(id=7, vector=plain, payload={"mine": None})])  # somebody else's
    assert export_collection(handle, Path(name), vectors=True) == 101
    report = import_collection(target, Path(name), "copy")
    assert (report.read, report.written, report.complete, report.warnings) == (101, 101, True, ())
    assert_same(source, "c", target, "copy")
    ours, theirs = (client.get_collection(at) for client, at in ((source, "c"), (target, "copy")))
    assert copied_metadata(theirs.config.metadata or {}) == copied_metadata(ours.config.metadata or {})
    if kinds[0] == kinds[1] == "edge":
        assert theirs.config.params.model_dump() == ours.config.params.model_dump()
        assert theirs.payload_schema.keys() == ours.payload_schema.keys() == {"section"}
    imported = CollectionHandle(target, "copy", None, registry)
    if kinds[0] == kinds[1]:  # others quantize otherwise, or not at all
        exact = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))
        asked: Any = {"pipeline": Retrieve("dense", 100, params=exact), "limit": 100}
        found, expected = (answers(one, ["word3 word5"], **asked)[0] for one in (imported, handle))
        scores = {hit.id: hit.score for hit in expected}
        assert {hit.id: hit.score for hit in found} == pytest.approx(scores, abs=1e-5)
    assert populate(imported, DOCUMENTS).unchanged == 100, "nothing of it is encoded again"


@pytest.mark.parametrize("name", FORMATS)
def test_tenants_indexes_and_slots_of_all_kinds_come_back(
    open_client: Stores, assert_same: AssertSame, name: str
) -> None:
    pytest.importorskip("pyarrow")
    source, target = open_client("edge", "one"), open_client("edge", "two")
    config, documents, registry = tenants()
    handle = CollectionHandle(source, "c", config, registry)
    populate(handle, documents)
    export_collection(handle, Path(name), vectors=True)
    import_collection(target, Path(name))
    assert_same(source, "c", target, "c")
    ours, theirs = source.get_collection("c").payload_schema, target.get_collection("c").payload_schema
    assert {key: (index.data_type, index.params) for key, index in theirs.items()} == {
        key: (index.data_type, index.params) for key, index in ours.items()
    }
    imported = CollectionHandle(target, "c", None, registry)
    with pytest.raises(TenantError):
        answers(imported, ["word1"])
    found = answers(imported, ["word1"], tenant="a")[0]
    assert {hit.document.metadata["customer"] for hit in found} == {"a"}


@pytest.mark.parametrize("name", FORMATS)
def test_documents_without_vectors_are_what_populate_reads(
    open_client: Stores, assert_same: AssertSame, name: str
) -> None:
    pytest.importorskip("pyarrow")
    source, target = open_client("edge", "one"), open_client("edge", "two")
    config, documents, registry = tenants()
    handle = CollectionHandle(source, "c", config, registry)
    populate(handle, [*documents, {"id": "odd", "text": "x", "metadata": {"id": "own", "customer": "a", "n": None}}])
    assert export_collection(handle, Path(name)) == 101
    exported = open_source(name)
    assert len(exported) == 101  # type: ignore[arg-type]
    report = populate(CollectionHandle(target, "c", config, registry), exported)
    assert (report.new, report.set_aside) == (101, 0)
    assert_same(source, "c", target, "c")
    assert export_collection(handle, Path(name), tenant="b") == 50
    few = models.Filter(must=[models.FieldCondition(key="section", match=models.MatchValue(value=1))])
    assert export_collection(handle, Path(name), filter=few, vectors=True) == 33


def test_lines_that_are_no_points_are_set_aside_with_the_reason(
    open_client: Stores, fill: Fill, registry: Registry
) -> None:
    export_collection(fill(open_client("edge", "one"), DOCUMENTS[:10]), Path("c.jsonl"), vectors=True)
    header, *lines = Path("c.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    changes: tuple[Callable[[Any], Any], ...] = (
        lambda row: row.update(point="no id"),
        lambda row: row["vectors"].update({"other": [1.0]}),
        lambda row: row["vectors"].update({"dense.1": [1.0]}),
        lambda row: row["vectors"]["dense.1"].__setitem__(0, float("nan")),
        lambda row: row["vectors"].update({"lexical.1": {"indices": [1, 1], "values": [1.0, 2.0]}}),
        lambda row: row.update(payload=[]),
        lambda row: row.update(point=rows[9]["point"]),
    )
    for row, change in zip(rows, changes, strict=False):
        change(row)
    texts = [json.dumps(row) for row in rows]
    Path("c.jsonl").write_text("\n".join([header, "{broken", "[1]", texts[9], *texts[:9]]))
    target = open_client("edge", "two")
    report = import_collection(target, Path("c.jsonl"))
    assert (report.read, report.written, report.set_aside) == (12, 3, 9)
    assert target.count("c").count == 3
    reasons = [json.loads(line) for line in Path(report.report_file).read_text().splitlines()]
    assert [entry["id"] for entry in reasons] == [f"c.jsonl:{n}" for n in (2, 3, 5, 6, 7, 8, 9, 10, 11)]
    words = ("not JSON", "not a JSON object", "not a point id", "there is no vector 'other'", "does not fit")
    assert all(word in entry["reason"] for word, entry in zip(words, reasons, strict=False))
    assert [entry["reason"].split(" (")[0] for entry in reasons[5:]] == [
        "vector 'dense.1' holds a value that is not a finite number",
        "vector 'lexical.1' names an index twice",
        "payload or vectors are not objects",
        "another line has the same point",
    ]
    assert report.warnings == (
        "the file has 12 points and says that they are 10: it was cut off, or the collection changed while it was "
        "exported",
    )


def test_an_import_that_was_killed_cannot_be_opened_and_is_done_by_another(
    open_client: Stores, fill: Fill, registry: Registry, assert_same: AssertSame
) -> None:
    class Killed:
        def begin(self, stage: str, total: int | None) -> None: ...

        def advance(self, stage: str, n: int) -> None:
            raise KeyboardInterrupt

    source, target = open_client("edge", "one"), open_client("edge", "two")
    export_collection(fill(source), Path("c.jsonl"), vectors=True)
    with pytest.raises(KeyboardInterrupt):
        import_collection(target, Path("c.jsonl"), progress=Killed())
    with pytest.raises(CollectionError, match="unfinished copy"):
        CollectionHandle(target, "c", None, registry)
    assert import_collection(target, Path("c.jsonl")).written == 100
    assert_same(source, "c", target, "c")
    with pytest.raises(CopyError, match=r"the collection exists(.|\n)*got: 100 points"):
        import_collection(target, Path("c.jsonl"))


def test_an_export_that_fails_leaves_the_file_that_was_there(open_client: Stores, fill: Fill, tmp_path: Path) -> None:
    class Broken:
        def begin(self, stage: str, total: int | None) -> None: ...

        def advance(self, stage: str, n: int) -> None:
            raise RuntimeError("no more")

    (tmp_path / "c.jsonl").write_text("before")
    with pytest.raises(RuntimeError):
        export_collection(fill(open_client("memory")), tmp_path / "c.jsonl", progress=Broken())
    assert (tmp_path / "c.jsonl").read_text() == "before"
    assert [path.name for path in tmp_path.glob("*unfinished")] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1, "text": "x"}\n', "the file was not exported with vectors"),
        ('{"diptych": {"format": 9}}\n', r"the header has another format(.|\n)*got: 9"),
        (
            '{"diptych": {"format": 1, "collection": "c", "points": 1, "vectors": true, "info": {}, "indexes": {}}}\n',
            "damaged",
        ),
        ("", "not exported with vectors"),
        ("\x00\x01", "not exported with vectors"),
    ],
)
def test_a_file_that_is_no_export_is_refused(open_client: Stores, tmp_path: Path, content: str, message: str) -> None:
    for name, write in (("c.jsonl", Path.write_text), ("c.jsonl.gz", None)):
        path = tmp_path / name
        write(path, content) if write else path.write_bytes(gzip.compress(content.encode()))
        with pytest.raises(CopyError, match=message):
            import_collection(open_client("memory"), path)


def test_the_name_of_the_file_tells_its_format(open_client: Stores, fill: Fill) -> None:
    with pytest.raises(CopyError, match=r"does not show the format(.|\n)*\.parquet"):
        export_collection(fill(open_client("memory")), Path("c.xml"))
