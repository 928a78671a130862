"""What a server does otherwise than an embedded store, and what it says when it refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse
from typer.testing import CliRunner

from diptych import Collection, Query
from diptych.adopt import adopt
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.config import Config
from diptych.config.models import SlotConfig
from diptych.copying import copy_collection
from diptych.errors import StoreUnavailable, StoreUnsupported
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.registry import Registry
from diptych.search import Diversify, Retrieve
from diptych.search.store_calls import read_store
from diptych.stores import open_store, retired_vectors
from diptych.stores.retired_vectors import drop_retired, existing
from diptych.stores.server_client import ServerClient
from diptych.stores.server_errors import error_line, is_conflict, refuses_key
from diptych.stores.versions import FEATURES, dotted, server_version, version_warnings
from diptych.swap import ApplyOptions
from diptych.testing.fakes import FakeDenseEncoder
from faulty_server import answer, faulty_server, hang
from small_server import Routes, served

SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 8}}
DOCUMENTS = [{"id": str(i), "text": f"words of number {i}", "tenant": ("eu", "us")[i % 2]} for i in range(12)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(url: str, **cluster: Any) -> Config:
    populating = {"retries": 0}
    raw = {"store": url, "collection": "c", "slots": SLOTS, "cluster": cluster, "populate": populating}
    return Config.model_validate(raw)


def test_the_pages_of_a_diversified_answer_are_the_parts_of_the_whole(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    pipeline = Retrieve("dense", 12) >> Diversify("dense", 0.5, 12)
    with Collection.open(config(small_server().url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        whole = [hit.id for hit in collection.search("words", pipeline=pipeline, limit=9)]
        pages = [collection.search("words", pipeline=pipeline, limit=3, offset=offset) for offset in (0, 3, 6)]
    assert len(whole) == 9
    assert [hit.id for page in pages for hit in page] == whole


def test_configs_with_other_shard_keys_share_a_collection(small_server: Callable[..., Any], fakes: Registry) -> None:
    url = small_server().url
    with Collection.open(config(url, shard_key="first"), registry=fakes) as first:
        first.populate(DOCUMENTS[:3])
    with Collection.open(config(url, shard_key="second"), registry=fakes) as second:
        assert second.populate(DOCUMENTS[3:]).new == 9
        assert second.populate(DOCUMENTS[3:], sync=True, max_deleted=1).unchanged == 9
        keys = second.client.list_shard_keys("c").shard_keys or []
    assert [found.key for found in keys] == ["first", "second"]


def test_a_single_document_without_a_shard_key_is_rejected_with_that_reason(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    with Collection.open(config(small_server().url, shard_by="tenant"), registry=fakes) as collection:
        report = collection.populate([{"id": "none", "text": "no tenant"}])
    assert (report.new, report.set_aside) == (0, 1)
    assert report.examples[0].reason.startswith("a document has no shard key (got None)")


class Contested(ServerClient):
    """Another client is just making the collection: it is refused, and shows a moment later."""

    def create_collection(self, *args: Any, **options: Any) -> bool:
        made = super().create_collection
        threading.Timer(0.5, made, args, options).start()
        raise UnexpectedResponse(409, "Conflict", b'{"status":{"error":"Collection `c` already exists!"}}', NO_HEADERS)


NO_HEADERS = httpx.Headers()


def test_who_comes_second_when_a_collection_is_made_goes_on(small_server: Callable[..., Any], fakes: Registry) -> None:
    url = small_server().url
    client = Contested(grpc=False, timeout=60, url=url)
    report = populate(CollectionHandle(client, "c", config(url), fakes), DOCUMENTS)
    assert report.new == 12


def test_several_populates_may_begin_at_once_on_a_new_collection(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    url, reports = small_server().url, list[Any]()

    def work(part: list[dict[str, Any]]) -> None:
        reports.append(populate(CollectionHandle(open_store(url), "c", config(url), fakes), part))

    threads = [threading.Thread(target=work, args=(DOCUMENTS[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.new for report in reports] == [4, 4, 4]


def test_an_unnamed_vector_that_nothing_needs_is_kept_and_a_copy_goes_without_it(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    client, encoder = open_store(small_server().url), FakeDenseEncoder(dimension=8)
    client.create_collection("c", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    texts = [f"words of number {n}" for n in range(12)]
    vectors = encoder.encode_document(texts).tolist()
    points = [models.PointStruct(id=n, vector=vectors[n], payload={"text": text}) for n, text in enumerate(texts)]
    client.upsert("c", points)
    adopt(client, "c", config("memory:"), vectors={"dense": ""}, registry=fakes)
    wanted = config("memory:").model_copy(
        update={"slots": {"dense": SlotConfig.model_validate({**SLOTS["dense"], "seed": 1})}}
    )
    collection = Collection.stored(client, "c", registry=fakes)
    collection.apply(wanted, ApplyOptions(gate=False))
    (sentence,) = collection.finish().warnings
    assert sentence == (
        "the unnamed vector stays, 0.000 MB of numbers that are neither written nor searched: a Qdrant server has no "
        "call that drops it. diptych copy makes a collection without it"
    )
    assert existing(client, "c") == {"", "dense.2"}
    assert copy_collection(client, "c", client, "copy").points == 12
    assert existing(client, "copy") == {"dense.2"}
    assert copy_collection(client, "c", client, "copy").copied == 0
    found = Collection.open(client, "copy", registry=fakes).search(texts[3], limit=1)
    assert found[0].document.text == texts[3]


def test_in_a_cluster_the_command_populate_drops_what_is_retired_once_its_shards_were_at_rest(
    small_server: Callable[..., Any], fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = small_server()
    server.cluster = {"remote_shards": [{"shard_id": 0, "peer_id": 2, "state": "Active"}]}
    monkeypatch.setattr(retired_vectors, "LEAST_INTERVAL", 0.1)
    collection = Collection.open(config(server.url), registry=fakes)
    collection.populate(DOCUMENTS)
    slots = {"dense": SlotConfig.model_validate({**SLOTS["dense"], "seed": 1})}
    collection.apply(config(server.url).model_copy(update={"slots": slots}), ApplyOptions(gate=False))
    assert collection.finish(later=True).retired == ("dense.1",)
    drop = partial(drop_retired, collection.client, "c", collection.handle.read)
    time.sleep(retired_vectors.FLUSHES * retired_vectors.LEAST_INTERVAL)
    assert drop() == ()
    assert existing(collection.client, "c") == {"dense.1", "dense.2"}
    server.cluster["remote_shards"][0]["state"] = "Partial"
    monkeypatch.setattr(retired_vectors, "PATIENCE", 0.1)
    assert drop(watch=True) == ()
    assert existing(collection.client, "c") == {"dense.1", "dense.2"}
    server.cluster["remote_shards"][0]["state"] = "Active"
    assert drop(watch=True) == ()
    assert existing(collection.client, "c") == {"dense.2"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.17.1", ["1.17.1, and vectors that are added", "update the server before a swap"]),
        ("1.18.3", ["1.18.3, and writes that outlive a crash just after a vector was dropped need 1.19"]),
        ("1.19.0", []),
        ("1.20.0-dev", []),
    ],
)
def test_a_plan_and_doctor_say_what_the_server_is_too_old_for(
    small_server: Callable[..., Any], fakes: Registry, tmp_path: Path, version: str, expected: list[str]
) -> None:
    wanted = config(small_server(names=version != "1.17.1", version=version).url)
    assert wanted.search_timeout == 10
    with Collection.open(wanted, registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        warnings = collection.plan(wanted).warnings
        assert len(warnings) == len(expected)
        assert all(part in warning for part, warning in zip(expected, warnings, strict=True))
        assert collection.info().warnings == warnings
        assert server_version(collection.client) == tuple(int(part) for part in version.split("-")[0].split("."))
        text = version_warnings(collection.client, ["text_index"], tenants=False)
        assert any("searches of a text index need 1.20" in warning for warning in text) == (version < "1.20")
        for tenants in (False, True):
            sparse = version_warnings(collection.client, ["sparse"], tenants=tenants)
            assert any("one tenant's documents" in warning for warning in sparse) == (tenants and version < "1.19")
    (tmp_path / "diptych.yaml").write_text(json.dumps({"store": wanted.store, "collection": "c", "slots": SLOTS}))
    said = CliRunner().invoke(app, ["doctor", "-c", str(tmp_path / "diptych.yaml")], obj=Session(fakes))
    shown = " ".join(said.output.split())
    assert all(part in shown for part in expected), said.output
    assert ("update the server" in shown) == bool(expected)


def test_a_server_without_relevance_feedback_is_refused_by_name(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    with Collection.open(config(small_server(version="1.16.3").url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        assert any("1.16.3, and searches by examples" in warning for warning in collection.info().warnings)
        refusal = r"(?s)no relevance feedback.*'c'.*Qdrant 1.16.3.*1.17 or newer.*without them"
        with pytest.raises(StoreUnsupported, match=refusal):
            collection.search("words of number 3", like=[Query("words of number 4")])
        assert collection.search("words of number 3", limit=1)


def test_the_version_is_asked_for_once_and_of_servers_alone(small_server: Callable[..., Any], fakes: Registry) -> None:
    assert version_warnings(open_store("memory:"), ["text_index"], tenants=True) == []
    server = small_server()
    with Collection.open(config(server.url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        collection.plan(config(server.url))
        assert collection.info().warnings == ()
    assert [path for method, path, _ in server.requests if path == "/"] == ["/"]


def test_the_table_of_versions_is_that_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text("utf-8")
    for feature in FEATURES:
        assert f"| {feature.needs} | {dotted(feature.since)} | {feature.without} |" in page


def test_a_swap_on_a_server_that_cannot_add_vectors_is_refused_with_the_ways_out(
    small_server: Callable[..., Any], fakes: Registry
) -> None:
    wanted = config(small_server(names=False, version="1.17.1").url)
    other = wanted.model_copy(update={"slots": {"dense": SlotConfig.model_validate({**SLOTS["dense"], "seed": 1})}})
    with Collection.open(wanted, registry=fakes) as collection:
        assert collection.populate(DOCUMENTS).new == 12
        found = [hit.id for hit in collection.search("words of number 3", limit=3)]
        assert any("a swap to another encoder is refused" in warning for warning in collection.plan(other).warnings)
        with pytest.raises(StoreUnsupported) as refused:
            collection.apply(other)
        assert (refused.value.got, refused.value.expected) == ("Qdrant 1.17.1", "1.18 or newer")
        assert "diptych copy" in refused.value.do
        assert collection.status().swap is None
        assert [hit.id for hit in collection.search("words of number 3", limit=3)] == found


@pytest.mark.parametrize(("status", "reason"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_a_server_that_refuses_the_key_is_not_one_that_does_not_answer(status: int, reason: str) -> None:
    refusal = answer(f"{status} {reason}", {"status": {"error": "forbidden: global access is required"}, "time": 0.0})
    with faulty_server(refusal) as url, pytest.raises(StoreUnavailable) as caught:
        open_store(url)
    assert caught.value.what == "the Qdrant server refuses the key"
    assert caught.value.got == f"{status} {reason}: forbidden: global access is required"
    assert "api_key" in caught.value.do


class GrpcError(Exception):
    """A gRPC failure, by its shape."""

    def __init__(self, name: str, details: str) -> None:
        super().__init__("<_InactiveRpcError of RPC that terminated with:\n\tstatus = ...")
        self._name, self._details = name, details

    def code(self) -> Any:
        return type("Code", (), {"name": self._name})

    def details(self) -> str:
        return self._details


def rest_error(status: int, reason: str, body: bytes) -> UnexpectedResponse:
    return UnexpectedResponse(status, reason, body, NO_HEADERS)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            rest_error(400, "Bad Request", b'{"status":{"error":"Wrong input: Not existing vector name: dense.9"}}'),
            "400 Bad Request: Wrong input: Not existing vector name: dense.9",
        ),
        (rest_error(502, "Bad Gateway", b"<html>\nnginx"), "502 Bad Gateway: <html>"),
        (rest_error(503, "Service Unavailable", b""), "503 Service Unavailable"),
        (rest_error(500, "", b'{"status":"ok"}'), '500: {"status":"ok"}'),
        (GrpcError("INVALID_ARGUMENT", "Wrong input: no such vector"), "INVALID_ARGUMENT: Wrong input: no such vector"),
        (TimeoutError(), "TimeoutError: no message"),
    ],
)
def test_an_error_tells_the_status_and_the_servers_own_sentence(error: Exception, sentence: str) -> None:
    assert error_line(error) == sentence


def test_conflicts_and_refused_keys_are_known_over_both_protocols() -> None:
    assert is_conflict(rest_error(409, "Conflict", b""))
    assert is_conflict(GrpcError("ALREADY_EXISTS", ""))
    assert not is_conflict(rest_error(404, "Not Found", b""))
    assert refuses_key(GrpcError("PERMISSION_DENIED", ""))
    assert not refuses_key(GrpcError("UNAVAILABLE", ""))


def test_a_search_whose_key_is_refused_says_so_though_the_collection_may_be_seen(
    small_server: Callable[..., Any], fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise rest_error(403, "Forbidden", b'{"status": {"error": "Forbidden: global access is required"}}')

    with Collection.open(config(small_server().url), registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        for method in ("query_points", "query_batch_points"):
            monkeypatch.setattr(ServerClient, method, refuse)
        with pytest.raises(StoreUnavailable, match="the store refuses the key") as caught:
            collection.search("words")
        assert "global access is required" in caught.value.got


def test_a_server_that_hangs_is_waited_for_once(small_server: Callable[..., Any], fakes: Registry) -> None:
    calls = list[str]()

    def play(connection: Any) -> None:
        calls.append("")
        hang()(connection)

    with Collection.open(config(small_server().url), registry=fakes) as collection, faulty_server(play) as url:
        collection.populate(DOCUMENTS)
        view = replace(collection.handle.view, client=ServerClient(grpc=False, timeout=1, url=url))
        with pytest.raises(StoreUnavailable, match="the store does not answer"):
            read_store(view, lambda: view.client.count("c"))
    assert len(calls) == 1


def test_a_server_that_goes_away_during_a_swap_is_an_error_that_says_how_to_go_on(fakes: Registry) -> None:
    other = SlotConfig.model_validate({"adapter": "fake-dense", "dimension": 8, "seed": 1})
    with served(Routes()) as server:
        wanted = config(server.url)
        collection = Collection.open(wanted, registry=fakes)
        collection.populate(DOCUMENTS)
    with pytest.raises(StoreUnavailable, match="run the same apply again"):
        collection.apply(wanted.model_copy(update={"slots": {"dense": other}}))
    with pytest.raises(StoreUnavailable, match="diptych status"):
        collection.rollback()
    with pytest.raises(StoreUnavailable, match="run the same finish again"):
        collection.finish()
    collection.close()
