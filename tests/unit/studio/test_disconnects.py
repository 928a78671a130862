"""Work that nobody waits for any more is not begun."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from diptych import Collection, Registry
from diptych.search import run
from diptych.search.microbatch import MicroBatcher
from diptych_serve.service.application import application
from diptych_serve.service.context import Readiness
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import served, until

GONE = re.compile(r'diptych_requests_total\{route="/studio/api/search",status="4.."} 1\.0')


def test_a_search_that_waits_is_never_begun_when_its_page_has_gone(
    filled: Callable[..., Collection], fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled([{"id": "1", "text": "a cat"}])
    whole, entered, free = collection.client.query_batch_points, threading.Event(), threading.Event()
    batches: list[int] = []

    def slow(name: str, requests: Any, **more: Any) -> Any:
        batches.append(len(requests))
        entered.set()
        assert free.wait(120)
        return whole(name, requests, **more)

    monkeypatch.setattr(Readiness, "start", lambda self: None)  # its checks are batches of their own
    monkeypatch.setattr(run, "MicroBatcher", partial(MicroBatcher, patience=300))  # however slow the machine is
    app = application(Served([collection], registry=fakes), extension=studio())
    with served(app) as url, httpx.Client(base_url=url, timeout=120) as client, ThreadPoolExecutor() as pool:
        monkeypatch.setattr(collection.client, "query_batch_points", slow)
        first = pool.submit(client.post, "/studio/api/search", json={"query": "first"})
        assert entered.wait(120)
        with closing(HTTPConnection(url.removeprefix("http://"))) as page:
            page.request("POST", "/studio/api/search", b'{"query": "second"}', {"Content-Type": "application/json"})
            until(lambda: "diptych_requests_in_flight 3.0" in client.get("/metrics").text)  # this one is the third
        until(lambda: len(GONE.findall(client.get("/metrics").text)) == 1)
        free.set()
        assert first.result(120).status_code == 200
        assert client.post("/studio/api/search", json={"query": "third"}).status_code == 200
    assert batches == [1, 1]
