"""Native code that panics: a Rust panic is no Exception, and yet an error that callers, services and commands tell."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from typer.testing import CliRunner

import panicking
from diptych import Collection, Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.config import parse_config
from diptych.errors import AdapterCrashed, AdapterFactoryError, DiptychError, PopulateError, StoreError
from diptych.testing import fakes_plugin
from diptych_edge.engine.shard import Shard
from diptych_serve.service import context
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import ANIMALS, served, until


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin, panicking, installed=False)


def config_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "store": f"edge:{folder / 'qdrant'}",
        "collection": "animals",
        "slots": {"dense": {"adapter": "panicking", "on": str(folder), "poison": "zebra"}},
        "cache": {"enabled": False},
        **changes,
    }


def animals(folder: Path, registry: Registry, **changes: Any) -> Collection:
    collection = Collection.open(parse_config(config_of(folder, **changes)), registry=registry)
    collection.populate({"id": key, "text": text} for key, text in ANIMALS.items())
    return collection


def test_a_panic_reaches_every_caller_as_an_error_and_the_collection_goes_on(
    tmp_path: Path, registry: Registry
) -> None:
    with animals(tmp_path, registry) as collection, ThreadPoolExecutor(8) as pool:
        (tmp_path / "panic").touch()
        for future in [pool.submit(collection.search, f"cat {n}") for n in range(16)]:
            with pytest.raises(AdapterCrashed, match="the encoder crashed") as raised:
                future.result(60)
            assert "PanicException: called `Option::unwrap()`" in raised.value.got
        (tmp_path / "panic").unlink()
        assert [collection.search(f"cat {n}")[0].id for n in range(4)] == ["cat"] * 4


def test_a_document_that_makes_an_encoder_panic_is_set_aside_and_the_others_are_indexed(
    tmp_path: Path, registry: Registry
) -> None:
    with animals(tmp_path, registry) as collection:
        documents = [{"id": str(n), "text": "a zebra" if n == 5 else f"text {n}"} for n in range(20)]
        report = collection.populate(documents, report_path=tmp_path / "aside.jsonl")
        assert (report.new, report.set_aside) == (19, 1)
        assert report.examples[0].id == "5"
        assert "the encoder crashed" in report.examples[0].reason


def test_an_encoder_that_always_panics_ends_a_populate_with_an_error_of_ours(
    tmp_path: Path, registry: Registry
) -> None:
    with animals(tmp_path, registry) as collection:
        (tmp_path / "panic").touch()
        with pytest.raises(PopulateError, match="an encoder fails even for plain inputs"):
            collection.populate([{"id": "new", "text": "a new text"}])
        (tmp_path / "panic").unlink()
        assert collection.populate([{"id": "new", "text": "a new text"}]).new == 1


def test_an_encoder_that_panics_ends_a_swap_with_an_error_and_the_old_encoders_serve_on(
    tmp_path: Path, registry: Registry
) -> None:
    with animals(tmp_path, registry) as collection:
        other = {"dense": {"adapter": "panicking", "on": str(tmp_path / "other"), "poison": "owl", "seed": 7}}
        with pytest.raises(DiptychError, match=r"crashed|fails"):
            collection.apply(parse_config(config_of(tmp_path, slots=other)))
        assert collection.search("cat")[0].id == "cat"
        assert collection.populate([{"id": "new", "text": "a new text"}]).new == 1


def test_a_factory_that_panics_is_an_error_of_ours(registry: Registry) -> None:
    with pytest.raises(AdapterFactoryError, match="the factory of adapter 'unmakeable' crashed"):
        registry.create("unmakeable")


def test_a_panic_of_the_embedded_store_is_a_store_error_and_others_read_on() -> None:
    def panics(opened: Any) -> Any:
        raise panicking.PanicException("poisoned")

    shard = Shard({"answer": 42}, "animals", cast(Any, None))  # reading writes nothing down
    with pytest.raises(StoreError, match="Qdrant Edge panicked"):
        shard.read(panics)
    assert shard.read(lambda opened: opened["answer"]) == 42
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(shard.read, lambda opened: opened["answer"]).result(20) == 42


def test_the_service_answers_a_panic_goes_on_and_tells_whether_it_is_ready(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "AGAIN", 0.05)
    collection = animals(tmp_path, registry)
    adapters = ["panicking-reranker"]
    with (
        served(application(Served([collection], adapters=adapters, registry=registry))) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):

        def status(path: str, body: Any) -> int:
            return client.post(path, json=body).status_code

        def is_ready() -> bool:
            return client.get("/readyz").status_code == 200

        until(is_ready)
        assert status("/v1/embeddings", {"model": "dense", "input": "a zebra"}) == 500
        assert status("/rerank", {"query": "a", "documents": ["poison"]}) == 500
        assert status("/search", {"query": "zebra"}) == 500
        assert status("/search", {"query": "cat"}) == 200
        until(is_ready)  # one bad text is no fault of the encoder
        (tmp_path / "panic").touch()
        answer = client.post("/search", json={"query": "owl"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "adapter_crashed")
        until(lambda: not is_ready())
        assert client.get("/readyz").json() == {"status": "failing"}
        (tmp_path / "panic").unlink()
        until(is_ready)
        assert status("/search", {"query": "cat"}) == 200


def test_an_encoder_that_calls_for_the_end_ends_no_service(tmp_path: Path, registry: Registry) -> None:
    with served(application(Served([animals(tmp_path, registry)], registry=registry))) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        (tmp_path / "leave").touch()
        assert httpx.post(f"{url}/search", json={"query": "owl"}, timeout=60).status_code == 500
        (tmp_path / "leave").unlink()
        assert httpx.post(f"{url}/search", json={"query": "cat"}, timeout=60).status_code == 200


def test_a_service_whose_encoder_hangs_is_not_ready(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "EVERY", 0.05)
    monkeypatch.setattr(context, "STUCK", 0.5)
    with served(application(Served([animals(tmp_path, registry)], registry=registry))) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        (tmp_path / "hang").touch()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        (tmp_path / "hang").unlink()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)


def test_commands_say_what_crashed_and_leave_with_one(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    animals(tmp_path, registry).close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(json.dumps(config_of(tmp_path)))
    (tmp_path / "panic").touch()
    result = CliRunner().invoke(app, ["search", "cat", "--json"], obj=Session(registry))
    assert result.exit_code == 1
    assert "crashed" in json.loads(result.stderr)["error"]["what"]
    assert "Traceback" not in result.output


def test_a_command_that_panics_outside_of_any_adapter_says_so(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panics(*args: Any, **options: Any) -> None:
        raise panicking.PanicException("no")

    monkeypatch.setattr("diptych.collection.collection.Collection.open", panics)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(json.dumps(config_of(tmp_path)))
    result = CliRunner().invoke(app, ["info", "--json"], obj=Session(registry))
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["got"] == "PanicException: no"


def test_no_thread_of_a_populate_that_was_ended_stays(tmp_path: Path, registry: Registry) -> None:
    with animals(tmp_path, registry) as collection:
        before = set(threading.enumerate())
        (tmp_path / "leave").touch()
        with pytest.raises(SystemExit):
            collection.populate({"id": str(n), "text": f"text {n}"} for n in range(2000))
        (tmp_path / "leave").unlink()
        until(lambda: set(threading.enumerate()) <= before)
        assert collection.populate([{"id": "new", "text": "a new text"}]).new == 1
