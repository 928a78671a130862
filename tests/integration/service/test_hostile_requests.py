"""Hostile requests, drawn by a seed: each is answered, none by a fault, and the service goes on.

`DIPTYCH_FUZZ` is how many are sent to each server; 400 unless set.
"""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Registry
from diptych_serve.agents import http_application, mcp_server
from diptych_serve.service.access import Keys
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from hostile import damaged, filter_of, text_of
from mutations import mutated
from serving import ANIMALS, animals, served

COUNT = int(os.environ.get("DIPTYCH_FUZZ", "400"))
JSON = {"Content-Type": "application/json"}
BODIES: dict[str, Any] = {
    "/search": {"query": "cat", "limit": 3, "filter": {"must": [{"key": "letter", "match": {"value": "c"}}]}},
    "/v1/embeddings": {"model": "dense", "input": ["cat", "dog"], "encoding_format": "float"},
    "/documents": {"documents": [{"id": "x", "text": "an animal", "letter": "x"}, {"id": "y", "text": "b"}]},
    "/rerank": {"query": "cat", "documents": ["a cat", {"text": "a dog"}], "top_n": 1},
}
SEARCHES = {"queries": ["cat", "dog"], "offset": 1, "pipeline": "dense", "with_payload": ["letter"], "explain": True}


def drawn_request(drawn: random.Random) -> tuple[str, bytes]:
    path = drawn.choice(list(BODIES))
    body = SEARCHES if path == "/search" and drawn.random() < 0.3 else BODIES[path]
    if path == "/search" and drawn.random() < 0.5:
        body = {**body, "filter": filter_of(drawn)}
    if drawn.random() < 0.7:
        body = mutated(body, drawn)
    text = text_of(body)
    return path, damaged(drawn, text) if drawn.random() < 0.15 else text


def drawn_call(drawn: random.Random) -> bytes:
    tools: dict[str, Any] = {
        "search": {"query": "cat", "limit": 2, "filter": filter_of(drawn), "text_length": 10},
        "explain": {"query": "cat", "ids": ["cat"], "pipeline": "dense"},
        "info": {"collection": "animals"},
        "populate": {"documents": [{"id": "x", "text": "an animal", "title": "t", "metadata": {"letter": "x"}}]},
    }
    name = drawn.choice(list(tools))
    is_whole = drawn.random() < 0.15  # whether all of the call is mutated, or its arguments alone
    arguments = tools[name] if is_whole or drawn.random() < 0.2 else mutated(tools[name], drawn)
    call: Any = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    if is_whole:
        call = mutated(call, drawn)
    text = text_of(call)
    return damaged(drawn, text) if drawn.random() < 0.15 else text


GOOD = {"name": "search", "arguments": {"query": "the warm cat"}}
ACCEPTS = {**JSON, "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2025-06-18"}


@pytest.mark.slow
@pytest.mark.parametrize("door", ["http", "mcp"])
def test_no_request_is_answered_by_a_fault_and_the_server_goes_on(
    tmp_path: Path, fakes: Registry, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    caplog.set_level(logging.ERROR)
    drawn, faults, statuses = random.Random(17), [], set()
    opened = Served([animals(tmp_path, fakes)], adapters=["fake-reranker"], registry=fakes)
    app: Any = application(opened, writes=True)
    if door == "mcp":
        app = http_application(mcp_server(opened, allow_populate=True), keys=Keys(), host="127.0.0.1")
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        for number in range(COUNT):
            path, text = drawn_request(drawn) if door == "http" else ("/mcp", drawn_call(drawn))
            answer = client.request("PUT" if path == "/documents" else "POST", path, content=text, headers=ACCEPTS)
            statuses.add(answer.status_code)
            if answer.status_code >= 500 or "unexpected error" in answer.text or "Internal" in answer.text:
                faults.append((number, path, text[:500], answer.status_code, answer.text[:300]))
        if door == "http":
            cat = {"id": "cat", "text": ANIMALS["cat"], "letter": "c"}  # a hostile one may have replaced it
            client.put("/documents", json={"documents": [cat]})
            hits = client.post("/search", json={"query": ANIMALS["cat"]}).json()["results"][0]["hits"]
        else:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": GOOD}
            hits = client.post("/mcp", json=call, headers=ACCEPTS).json()["result"]["structuredContent"]["hits"]
            opened.close()
    assert not faults, f"{len(faults)} of {COUNT}: {faults[:5]}"
    assert not [record for record in caplog.records if record.name.startswith("diptych")]
    assert "cat" in [hit["id"] for hit in hits]
    assert {200, 400} <= statuses
