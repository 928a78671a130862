"""A collection with tenants, over HTTP: no request reaches another tenant's documents."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import served


@pytest.fixture
def client(tmp_path: Path, fakes: Registry) -> Iterator[httpx.Client]:
    config = {
        "store": f"edge:{tmp_path / 'qdrant'}",
        "collection": "notes",
        "slots": {"dense": {"adapter": "fake-dense"}},
        "tenant": {"field": "customer"},
        "cache": {"enabled": False},
    }
    notes = Collection.open(parse_config(config), registry=fakes)
    notes.populate({"id": "1", "text": f"the oil of {name}", "customer": name} for name in ("acme", "globex"))
    with served(application(Served([notes], registry=fakes))) as url, httpx.Client(base_url=url, timeout=60) as made:
        yield made


def texts(client: httpx.Client, **body: Any) -> list[str]:
    (result,) = client.post("/search", json={"query": "oil", "explain": True, **body}).json()["results"]
    assert len(result["explanations"]) == len(result["hits"])
    return [hit["text"] for hit in result["hits"]]


def test_neither_metrics_nor_logs_hold_a_tenant(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert texts(client, tenant="acme")
    assert client.post("/search", json={"query": "oil", "tenant": "acme", "limit": 0}).status_code == 400
    assert (
        client.post("/search?tenant=acme", json={"query": "oil", "tenant": "", "pipeline": "acme"}).status_code == 400
    )
    own = [record.getMessage() for record in caplog.records if record.name.startswith("diptych")]
    kept = [client.get("/metrics").text, *own]
    assert 'diptych_queries_total{collection="notes"} 1.0' in kept[0]
    assert any("POST /search 400" in line for line in kept)
    assert [line for line in kept if "acme" in line or "globex" in line] == []


def test_a_request_names_its_tenant_or_is_refused(client: httpx.Client) -> None:
    refused = client.post("/search", json={"query": "oil"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "tenant_error")
    assert texts(client, tenant="acme") == ["the oil of acme"]
    other = {"should": [{"key": "customer", "match": {"value": "globex"}}]}
    assert texts(client, tenant="acme", filter=other) == []
