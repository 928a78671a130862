"""`verify` finds points that are not what was written, on embedded stores and on servers.

The server is a small one with Qdrant's routes, and a real one where DIPTYCH_TEST_SERVER names it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from typer.testing import CliRunner

from diptych import Collection, Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.collection.verify import VerifyReport, mend, verify
from diptych.config import Config, parse_config
from diptych.errors import StoreDamaged
from diptych.testing import fakes_plugin
from named_server import KEY, emptied

SLOTS = {
    "dense": {"adapter": "fake-dense"},
    "words": {"adapter": "fake-sparse"},
    "tokens": {"adapter": "fake-multivector"},
}
COUNT = 300
DOCUMENTS = [
    {
        "id": f"d{n}",
        "title": f"title {n}",
        "text": f"document {n} tells of item {n * 7} and of ünïcödé {n % 13}",
        "year": 1900 + n,
        "score": n / 7,
        "tags": ["a", str(n)],
        "nested": {"deep": [n, None, True, 1.0]},
    }
    for n in range(COUNT)
]


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin, installed=False)


@pytest.fixture(params=["edge", "memory", "small", "server"])
def store(request: pytest.FixtureRequest, small_server: Callable[..., Any], tmp_path: Path) -> Iterator[str]:
    """The URL of a store without the collection."""
    if request.param == "server":
        with emptied("docs") as settings:
            yield settings["store"]
        return
    found = {"edge": f"edge:{tmp_path / 'store'}", "memory": "memory:"}
    yield str(small_server().url) if request.param == "small" else found[request.param]


def config_of(store: str) -> Config:
    return parse_config({**place(store), "collection": "docs", "slots": SLOTS, "cache": {"enabled": False}})


def place(store: str) -> dict[str, Any]:
    """What a config says of the store, with the key of the named server."""
    key = os.environ.get(KEY)
    return {"store": store, "api_key": key} if key and store.startswith(("http", "grpc")) else {"store": store}


@pytest.fixture
def collection(store: str, registry: Registry) -> Iterator[Collection]:
    with Collection.open(config_of(store), registry=registry) as made:
        made.populate(DOCUMENTS)
        yield made


def point_of(collection: Collection, identifier: str) -> models.Record:
    records = collection.handle.client.scroll("docs", limit=COUNT, with_payload=True, with_vectors=True)[0]
    return next(record for record in records if (record.payload or {})["_diptych"]["id"] == identifier)


def vector_of(collection: Collection, slot: str) -> str:
    return collection.handle.slot(slot).vector


def faults(report: VerifyReport) -> dict[str, set[str]]:
    found = {name: set(ids.values()) for name, ids in report.vectors.items()}
    return {**found, **({"payload": set(report.altered.values())} if report.altered else {})}


def test_what_was_just_populated_is_right(collection: Collection) -> None:
    for sample in (16, None):
        report = verify(collection.handle, sample=sample)
        assert report.passed, report.lines()
        assert (report.points, report.sampled) == (COUNT, sample or COUNT)


def test_missing_empty_and_wrong_vectors_are_found_and_mended(collection: Collection) -> None:
    client, dense, words, tokens = (
        collection.handle.client, *(vector_of(collection, slot) for slot in ("dense", "words", "tokens")),
    )  # fmt: skip
    client.update_vectors("docs", [models.PointVectors(id=point_of(collection, "d3").id, vector={dense: [0.0] * 64})])
    client.delete_vectors("docs", [words], [point_of(collection, "d4").id])
    other: Any = point_of(collection, "d6").vector
    for slot in (dense, words, tokens):
        client.update_vectors(
            "docs", [models.PointVectors(id=point_of(collection, "d5").id, vector={slot: other[slot]})]
        )
    report = verify(collection.handle, sample=None)
    assert faults(report) == {"dense": {"d3", "d5"}, "words": {"d4", "d5"}, "tokens": {"d5"}}
    assert report.faulty == 3
    assert mend(collection.handle, report) == (3, 0)
    assert verify(collection.handle, sample=None).passed
    assert collection.populate(DOCUMENTS).unchanged == COUNT


@pytest.mark.parametrize("returns", [False, True])
def test_a_point_that_is_deleted_or_written_anew_meanwhile_stops_no_repair(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    client: Any = collection.handle.client
    dense, write, tries = vector_of(collection, "dense"), client.update_vectors, list[int]()
    ids = [point_of(collection, name).id for name in ("d3", "d4")]
    write("docs", [models.PointVectors(id=point, vector={dense: [0.0] * 64}) for point in ids])
    client.set_payload("docs", {"text": "of somebody else"}, [gone := point_of(collection, "d5").id])
    report, (record,) = verify(collection.handle, sample=16), client.retrieve("docs", ids[:1], with_vectors=True)

    def late(name: str, points: Any, **options: Any) -> Any:
        tries.append(len(points))
        if len(tries) > 1:
            return write(name, points, **options)
        client.delete(name, models.PointIdsList(points=[*ids[:1], gone]))
        try:
            return write(name, points, **options)
        finally:
            if returns:
                client.upsert(name, [models.PointStruct(id=ids[0], vector=record.vector, payload=record.payload)])

    monkeypatch.setattr(client, "update_vectors", late)
    mend(collection.handle, report)
    assert len(tries) > 1
    again = verify(collection.handle, sample=16)
    assert (again.passed, again.points) == (True, COUNT - (1 if returns else 2))


def test_missing_and_empty_vectors_are_found_whatever_the_sample(collection: Collection) -> None:
    client, dense, words = collection.handle.client, vector_of(collection, "dense"), vector_of(collection, "words")
    client.update_vectors("docs", [models.PointVectors(id=point_of(collection, "d3").id, vector={dense: [0.0] * 64})])
    client.delete_vectors("docs", [words], [point_of(collection, "d4").id])
    assert faults(verify(collection.handle, sample=1)) == {"dense": {"d3"}, "words": {"d4"}}


def test_a_payload_that_no_longer_names_its_document_is_found_and_written_anew_by_populate(
    collection: Collection,
) -> None:
    lost, client = [point_of(collection, name).id for name in ("d3", "d4")], collection.handle.client
    client.clear_payload("docs", lost[:1])
    client.overwrite_payload("docs", {"year": 1904, "_dipt\u0178ch": {"id": "d4"}}, lost[1:])
    client.upsert("docs", [models.PointStruct(id=7, vector={}, payload={"of": "another program"})])
    report = verify(collection.handle, sample=16)
    assert (report.points, set(report.altered)) == (COUNT, set(lost))
    assert mend(collection.handle, report) == (0, 2)
    done = collection.populate(DOCUMENTS)
    assert (done.new + done.changed, done.unchanged) == (2, COUNT - 2)
    assert verify(collection.handle, sample=16).passed


def test_an_altered_payload_is_found_and_written_anew_by_populate(collection: Collection) -> None:
    client = collection.handle.client
    client.set_payload("docs", {"text": "something else"}, [point_of(collection, "d8").id])
    client.set_payload("docs", {"year": 7}, [point_of(collection, "d9").id])
    report = verify(collection.handle)
    assert set(report.altered.values()) == {"d8", "d9"}
    assert mend(collection.handle, report) == (0, 2)
    done = collection.populate(DOCUMENTS)
    assert (done.changed, done.unchanged) == (2, COUNT - 2)
    assert verify(collection.handle, sample=None).passed


Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(tmp_path: Path, store: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs `diptych doctor` on the store, which is populated and closed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(json.dumps({**place(store), "collection": "docs", "slots": SLOTS}))
    monkeypatch.setenv("DIPTYCH_CACHE_DIR", str(tmp_path / "cache"))
    with Collection.open(config_of(store), registry=registry) as made:
        made.populate(DOCUMENTS)

    def run(*args: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, ["doctor", "--json", *args], obj=Session(registry))
        checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
        return result.exit_code, checks

    return run


@pytest.mark.parametrize("store", ["edge"], indirect=True)
def test_doctor_says_what_is_damaged_repairs_it_and_populate_adds_the_rest(
    doctor: Doctor, store: str, tmp_path: Path, registry: Registry
) -> None:
    code, checks = doctor("--verify", "--sample", "0")
    assert (code, checks["verify"]["status"]) == (0, "ok")
    assert "300 documents, 300 of them encoded again" in checks["verify"]["found"]
    shutil.rmtree(next((tmp_path / "store").glob("collections/*/shard-*/wal")))
    with pytest.raises(StoreDamaged, match="doctor --repair"):
        Collection.open(config_of(store), registry=registry)
    code, checks = doctor()
    assert (code, checks["store"]["status"]) == (1, "fail")
    assert "doctor --repair" in checks["store"]["do"]
    code, checks = doctor("--repair")
    assert code == 0, checks
    assert checks["repair"]["found"] == "the collection was rebuilt with 300 of 300 points"
    assert checks["verify"]["status"] == "ok"
    with Collection.open(config_of(store), registry=registry) as collection:
        assert collection.populate(DOCUMENTS).unchanged == COUNT
    assert "repair" not in doctor("--repair")[1]


@pytest.mark.parametrize("store", ["edge", "small", "server"], indirect=True)
def test_doctor_mends_vectors_that_do_not_fit(doctor: Doctor, store: str, registry: Registry) -> None:
    """Two are zero, one is missing, and one is another document's."""
    with Collection.open(config_of(store), registry=registry) as collection:
        dense, words, client = *(vector_of(collection, slot) for slot in ("dense", "words")), collection.handle.client
        other: Any = point_of(collection, "d9").vector
        wrong = {"d1": [0.0] * 64, "d2": [0.0] * 64, "d3": other[dense]}
        client.update_vectors(
            "docs",
            [models.PointVectors(id=point_of(collection, name).id, vector={dense: own}) for name, own in wrong.items()],
        )
        client.delete_vectors("docs", [words], [point_of(collection, "d4").id])
    code, checks = doctor("--verify", "--sample", "0")
    assert (code, checks["verify"]["status"]) == (1, "fail")
    for fault in ("dense: vectors of 3 documents ('d", "words: vectors of 1 document ('d4')"):
        assert fault in checks["verify"]["found"]
    assert checks["verify"]["do"] == "diptych doctor --repair"
    code, checks = doctor("--repair", "--sample", "0")
    assert (code, checks["verify"]["status"]) == (0, "warn")
    assert "4 points have new vectors" in checks["verify"]["found"]
    assert doctor("--verify", "--sample", "0")[1]["verify"]["status"] == "ok"
    with Collection.open(config_of(store), registry=registry) as collection:
        assert collection.populate(DOCUMENTS).unchanged == COUNT
