"""`local:PATH` opens what qdrant-client's local mode keeps, and runs nothing of what a folder's pickles say."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import pickle
import random
import sqlite3
import tracemalloc
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import CollectionNotFound, StoreError, StoreLocked
from diptych.stores import open_store
from diptych.testing import fakes_plugin

# qdrant-client leaves its lock file open when it cannot open a folder.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
STORAGE = "collection/c/storage.sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that qdrant-client made."""
    client = QdrantClient(path=str(tmp_path / "local"))
    client.create_collection(
        "c",
        vectors_config={
            "dense": models.VectorParams(size=3, distance=models.Distance.COSINE),
            "tokens": models.VectorParams(
                size=2,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    sparse = models.SparseVector(indices=[1, 7], values=[0.5, 2.0])
    vector: Any = {"dense": [1.0, 2.0, 3.0], "tokens": [[1.0, 0.0], [0.0, 1.0]], "words": sparse}
    payload = {"text": "words", "n": 1, "deep": {"list": [1.5, None, True]}, "when": datetime.datetime(2026, 1, 2)}
    client.upsert("c", [models.PointStruct(id=n, vector=vector, payload=payload) for n in range(3)])
    client.upsert("c", [models.PointStruct(id=str(uuid.UUID(int=7)), vector=vector, payload={})])
    client.close()
    return tmp_path / "local"


def put(folder: Path, blob: bytes) -> None:
    base = sqlite3.connect(folder / STORAGE)
    with base:
        base.execute("INSERT INTO points VALUES ('x', ?)", (blob,))
    base.close()


def test_it_is_copied_into_an_embedded_store(folder: Path, tmp_path: Path) -> None:
    source, target = open_store(f"local:{folder}"), open_store(f"edge:{tmp_path / 'edge'}")
    source.set_payload("c", {"when": "2026"}, points=[0, 1, 2])  # datetimes are nothing that a store keeps
    assert copy_collection(source, "c", target).points == 4
    source.close()
    found, _ = target.scroll("c", with_vectors=["dense"])
    vectors: Any = [point.vector for point in found]
    assert [round(sum(x * x for x in one["dense"]), 5) for one in vectors] == [1.0] * 4
    target.close()


def test_a_collection_in_it_is_populated_and_found_again(tmp_path: Path) -> None:
    raw = {"store": f"local:{tmp_path / 'new'}", "collection": "c", "slots": {"dense": {"adapter": "fake-dense"}}}
    registry = Registry(fakes_plugin, installed=False)
    with Collection.open(Config.model_validate(raw), registry=registry) as collection:
        collection.populate([{"id": "a", "text": "words"}])
    with Collection.open(f"local:{tmp_path / 'new'}", "c", registry=registry, create=False) as collection:
        assert [hit.id for hit in collection.search("words")] == ["a"]


class Evil:
    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


def attacks(sign: Path) -> list[bytes]:
    command = f"touch {sign}"
    point = models.PointStruct(id=9, vector={}, payload={"x": 1})
    inside = pickle.dumps(point).replace(b"K\x09", b"K\x09", 1)
    name = b"cqdrant_client.http.models.models\nPointStruct\n"
    return [
        pickle.dumps(Evil(os.system, command)),
        pickle.dumps(Evil(eval, f"open({str(sign)!r}, 'w')")),
        pickle.dumps(Evil(exec, f"open({str(sign)!r}, 'w')"), protocol=0),
        pickle.dumps(models.PointStruct.model_construct(id=1, vector={}, payload={"x": Evil(os.system, command)})),
        pickle.dumps({"x": Evil(os.system, command)}),
        b"cos\nsystem\n(V" + command.encode() + b"\ntR.",
        b"cbuiltins\ngetattr\n(cqdrant_client.http.models.models\nPointStruct\nV__init__\ntR.",
        name + b"N}V__init__\nI1\ns\x86b.",  # changes the class
        name + b"}V__init__\nI1\nsb.",
        b"cuuid\nUUID\nN}V__init__\nI1\ns\x86b.",
        b"Ppersistent\n.",
        b"\x82\x01.",  # an extension
        inside[: len(inside) // 2],
        b"",
        pickle.dumps("no point"),
        pickle.dumps(None),
        pickle.dumps(b"x" * 10),
    ]


def test_no_pickle_of_a_folder_runs_anything(folder: Path, tmp_path: Path) -> None:
    sign = tmp_path / "it-ran"
    clean = (folder / STORAGE).read_bytes()
    attributes = dict(vars(models.PointStruct)), dict(vars(uuid.UUID))
    for blob in attacks(sign):
        put(folder, blob)
        with pytest.raises(StoreError, match="it was not opened"):
            open_store(f"local:{folder}", create=False)
        (folder / STORAGE).write_bytes(clean)
    assert not sign.exists()
    assert attributes == (dict(vars(models.PointStruct)), dict(vars(uuid.UUID)))
    open_store(f"local:{folder}").close()


@pytest.mark.parametrize("name", ["uuid.SafeUUID", "uuid.UUID", "decimal.Decimal", "datetime.timezone"])
@pytest.mark.parametrize("made", [b"", b"I0\n\x85R"], ids=["the class", "an object of it"])
def test_a_pickle_sets_nothing_on_what_the_process_shares(folder: Path, name: str, made: bytes) -> None:
    module, _, kind = name.partition(".")
    point = b"cqdrant_client.http.models.models\nPointStruct\n)\x81}b."
    found = b"c%s\n%s\n" % (module.encode(), kind.encode()) + made
    for state in (b"(N}S'zz'\ncdecimal\nDecimal\nstb", b"}S'zz'\nI1\nsb"):
        put(folder, found + state + b"0" + point)
        with pytest.raises(StoreError, match="it was not opened"):
            open_store(f"local:{folder}")
        base = sqlite3.connect(folder / STORAGE)
        with base:
            base.execute("DELETE FROM points WHERE id = 'x'")
        base.close()
    assert not any(hasattr(one, "zz") for one in (uuid.SafeUUID, uuid.SafeUUID(0), uuid.UUID, uuid.UUID(int=0)))


@pytest.mark.parametrize("put_in_memo", [b"r\xff\xff\xff\x00", b"p16777215\n"])
def test_a_pickle_takes_no_more_memory_than_it_is_large(folder: Path, put_in_memo: bytes) -> None:
    put(folder, b"N" + put_in_memo + b".")
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="a memo of 16,777,215 entries"):
            open_store(f"local:{folder}")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_payloads_of_any_plain_value_are_read(folder: Path) -> None:
    day = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    payload = {"id": uuid.UUID(int=7), "safe": uuid.SafeUUID.safe, "price": decimal.Decimal("1.5"), "day": day}
    with closing(QdrantClient(path=str(folder))) as client:
        vector: Any = {"dense": [1.0, 2.0, 3.0]}
        client.upsert("c", [models.PointStruct(id=9, vector=vector, payload=payload)])
    with closing(open_store(f"local:{folder}")) as client:
        assert (client.retrieve("c", [9])[0].payload or {}).keys() == payload.keys()


def test_a_pickle_changed_anywhere_is_refused_or_read(folder: Path) -> None:
    draw = random.Random(3)
    clean = (folder / STORAGE).read_bytes()
    base = sqlite3.connect(folder / STORAGE)
    blob = base.execute("SELECT point FROM points").fetchone()[0]
    base.close()
    for _ in range(300):
        damaged = bytearray(blob)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        put(folder, bytes(damaged))
        with suppress(StoreError):
            open_store(f"local:{folder}").close()
        (folder / STORAGE).write_bytes(clean)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE points RENAME TO p; CREATE VIEW points AS SELECT rowid, id, point FROM p",
        "CREATE TRIGGER t AFTER DELETE ON points BEGIN SELECT 1; END",
        "CREATE TABLE other (x)",
        "DROP TABLE points",
    ],
)
def test_a_file_with_other_tables_is_refused(folder: Path, change: str) -> None:
    base = sqlite3.connect(folder / STORAGE)
    base.executescript(change)
    base.close()
    with pytest.raises(StoreError, match=r"other tables than points"):
        open_store(f"local:{folder}")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"collections": {"../../outside": {}}}', "lies outside of the folder"),
        ('{"collections": {"/etc": {}}}', "lies outside of the folder"),
    ],
)
def test_a_damaged_list_of_collections_is_refused(folder: Path, meta: str, message: str) -> None:
    (folder / "meta.json").write_text(meta)
    with pytest.raises(StoreError, match=message):
        open_store(f"local:{folder}")


def test_a_folder_that_is_open_elsewhere_is_locked(folder: Path) -> None:
    client = QdrantClient(path=str(folder))
    with pytest.raises(StoreLocked, match="another process has the folder open"):
        open_store(f"local:{folder}")
    client.close()


def test_each_kind_of_folder_says_how_it_is_opened(folder: Path, tmp_path: Path) -> None:
    for create in (True, False):
        with pytest.raises(StoreError, match=f"open it as qdrant-client's local mode: store: local:{folder}"):
            open_store(f"edge:{folder}", create=create)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") == [
        ".lock",
        "collection",
        "meta.json",
    ]
    open_store(f"edge:{tmp_path / 'edge'}").close()
    with pytest.raises(StoreError, match="an embedded store is opened by edge:"):
        open_store(f"local:{tmp_path / 'edge'}")
    with pytest.raises(CollectionNotFound, match="there is no folder"):
        open_store(f"local:{tmp_path / 'nowhere'}", create=False)
    assert json.loads((folder / "meta.json").read_text())["collections"].keys() == {"c"}
