"""Readiness, metrics and the access log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import panicking
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin
from diptych_serve.service import context as module
from diptych_serve.service.access import Keys
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import SEARCH, SLOTS, animals, served, until

SECRET = "s3cret-key"


def test_metrics_count_requests_texts_pairs_and_queries(client: httpx.Client) -> None:
    client.post("/v1/embeddings", json={"model": "dense", "input": ["cat", "dog"], "input_type": "query"})
    client.post("/v1/embeddings", json={"model": "nobody", "input": "cat"})
    client.post("/rerank", json={"query": "cat", "documents": ["a cat", "a dog", "an owl"]})
    client.post("/search", json={"queries": ["cat", "dog"]})
    client.get("/v1/models/dense")
    client.get("/some/../where?api_key=1")
    answer = client.get("/metrics")
    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'diptych_requests_total{route="/v1/embeddings",status="200"} 1.0',
        'diptych_requests_total{route="/v1/embeddings",status="404"} 1.0',
        'diptych_requests_total{route="/v1/models/MODEL",status="200"} 1.0',
        'diptych_requests_total{route="other",status="404"} 1.0',
        'diptych_request_seconds_count{route="/search"} 1.0',
        'diptych_texts_encoded_total{model="dense",side="query"} 2.0',
        'diptych_pairs_scored_total{model="fake-reranker"} 3.0',
        'diptych_queries_total{collection="animals"} 2.0',
        'diptych_encode_batch_size_count{model="dense"} 1.0',
        "diptych_requests_in_flight 1.0",
        "diptych_ready 1.0",
    ):
        assert line in lines


def test_the_access_log_holds_route_and_status_but_no_text_and_no_key(
    tmp_path: Path, fakes: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": f"Bearer {SECRET}"}
    with served(application(Served([animals(tmp_path, fakes)], registry=fakes), keys=Keys([SECRET]))) as url:
        httpx.post(f"{url}/search?q=zebra", json={"query": "zebra"}, headers=headers)
        httpx.post(f"{url}/search", json={"query": "zebra", "filter": {"must": "zebra"}}, headers=headers)
        httpx.get(f"{url}/zebra", headers={"Authorization": "Bearer zebra"})
    own = [record.getMessage() for record in caplog.records if record.name.startswith(("diptych", "uvicorn"))]
    access = [line.rpartition(" ms")[0].rsplit(" ", 1)[0] for line in own if " ms" in line]
    access = [line for line in access if "/metrics" not in line]  # of the server of another test, whose line came late
    assert access == ["POST /search 200", "POST /search 400", "GET other 401"]
    assert not any("zebra" in line or SECRET in line for line in own)
    assert SECRET not in repr(Keys([SECRET]))


def test_it_is_ready_once_its_collections_are_warm(
    tmp_path: Path, fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN", 0.05)
    config = parse_config(
        {
            "store": f"edge:{tmp_path / 'qdrant'}",
            "collection": "later",
            "slots": SLOTS,
            "search": SEARCH,
            "cache": {"enabled": False},
        }
    )
    empty = Collection.open(config, registry=fakes)
    with served(application(Served([empty], registry=fakes))) as url:
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.post(f"{url}/search", json={"query": "cat"}).status_code == 404
        embedded = httpx.post(f"{url}/v1/embeddings", json={"model": "dense", "input": "cat"})
        assert embedded.status_code == 200  # encoders need no documents
        empty.populate([{"id": "cat", "text": "the cat"}])
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert httpx.post(f"{url}/search", json={"query": "cat"}).status_code == 200


def test_it_is_not_ready_while_its_store_does_not_answer(
    small_server: Callable[..., Any], tmp_path: Path, fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWERS", 0.3)
    monkeypatch.setattr(module, "AGAIN", 0.05)
    store, held = small_server(), threading.Event()
    collection = animals(tmp_path, fakes, store=store.url, search_timeout=1)
    with served(application(Served([collection], registry=fakes))) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        store.holds(held)
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "failing"})
        refused = httpx.post(f"{url}/search", json={"query": "cat"})
        assert (refused.status_code, "the store does not answer" in refused.text) == (503, True)
        assert httpx.get(f"{url}/healthz").status_code == 200
        held.set()
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)


def test_encoders_are_served_without_any_store(tmp_path: Path, fakes: Registry) -> None:
    config = parse_config(
        {"store": "http://127.0.0.1:1", "collection": "none", "slots": SLOTS, "search": SEARCH}  # nobody is there
    )
    with served(application(Served.of_encoders([config], registry=fakes))) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert httpx.post(f"{url}/v1/embeddings", json={"model": "dense", "input": "cat"}).status_code == 200
        assert httpx.post(f"{url}/rerank", json={"query": "cat", "documents": ["a cat"]}).status_code == 200
        answer = httpx.post(f"{url}/search", json={"query": "cat"})
        assert (answer.status_code, "only encoders are served" in answer.text) == (404, True)


def test_a_fault_of_an_encoder_is_told_without_its_text(
    tmp_path: Path, fakes: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    slots = {"dense": {"adapter": "fake-dense", "nan_word": "zebra"}}
    collection = animals(tmp_path, fakes, slots=slots, search={})
    with served(application(Served([collection], registry=fakes))) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "dense", "input": "a zebra"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "contract_error")
    assert "NaN or infinity" in answer.json()["error"]["message"]
    assert not any("zebra" in record.getMessage() for record in caplog.records)


def test_requests_under_way_end_before_the_service_does(tmp_path: Path) -> None:
    registry = Registry(fakes_plugin, panicking, installed=False)
    slots = {"dense": {"adapter": "panicking", "on": str(tmp_path)}}
    collection = animals(tmp_path, registry, slots=slots, search={})
    answers: list[int] = []
    with served(application(Served([collection], registry=registry))) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        (tmp_path / "hang").touch()

        def ask() -> None:
            answers.append(httpx.post(f"{url}/search", json={"query": "cat"}, timeout=60).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: "diptych_requests_in_flight 2.0" in httpx.get(f"{url}/metrics").text)
        threading.Timer(0.5, (tmp_path / "hang").unlink).start()  # while the service waits
    asking.join(60)
    assert answers == [200]
    with Collection.open(f"edge:{tmp_path / 'qdrant'}", "animals", registry=registry, create=False) as again:
        assert again.count() == 4  # the store was closed, else it would be locked
