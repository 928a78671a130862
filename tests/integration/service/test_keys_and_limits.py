"""Who may ask, and how much."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import BaseModel, ValidationError

from diptych import Registry
from diptych_serve.service.access import Keys, Limits
from diptych_serve.service.admission import Refused
from diptych_serve.service.application import application
from diptych_serve.service.requests import EmbeddingsRequest, RerankRequest, SearchRequest, parsed
from diptych_serve.service.served import Served
from serving import animals, served, until

LIMITS = Limits(body=2000, inputs=3, characters=50, hits=20)

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, fakes: Registry) -> Iterator[str]:
    collection = animals(tmp_path_factory.mktemp("locked"), fakes)
    app = application(Served([collection], registry=fakes), keys=Keys(["first", "second"]), limits=LIMITS)
    with served(app) as url:
        yield url


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "an API key is needed\n  got: no header Authorization\n  do: send the header Authorization: Bearer KEY"),
        ("third", "an API key is needed\n  got: the header Authorization without the word Bearer\n"),
        ("Basic third", "an API key is needed\n  got: the header Authorization without the word Bearer\n"),
        ("Bearer", "an API key is needed\n  got: the header Authorization with no key after Bearer\n"),
        (
            "Bearer third",
            "the API key is wrong\n  where: the header Authorization: Bearer KEY\n  do: send one of the keys",
        ),
    ],
)
def test_whether_a_key_is_missing_or_wrong_is_told_without_the_key(
    locked: str, header: str | None, message: str
) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("GET", "/v1/models"), ("POST", "/search"), ("GET", "/metrics"), ("GET", "/nowhere")):
        answer = httpx.request(method, f"{locked}{path}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["message"].startswith(message)
        assert not any(key in answer.text for key in ("first", "second", "third"))


def test_each_key_opens_and_health_needs_none(locked: str) -> None:
    for key in ("first", "second"):
        with openai.OpenAI(base_url=f"{locked}/v1", api_key=key, max_retries=0) as api:
            assert api.embeddings.create(model="dense", input="cat").data
    assert httpx.get(f"{locked}/healthz").json() == {"status": "ok"}
    until(lambda: httpx.get(f"{locked}/readyz").json() == {"status": "ready"})


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/embeddings", {"model": "dense", "input": ["cat"] * 4}, 422, "too_many_inputs"),
        ("/v1/embeddings", {"model": "dense", "input": "c" * 51}, 422, "input_too_long"),
        ("/rerank", {"query": "cat", "documents": ["cat"] * 4}, 422, "too_many_inputs"),
        ("/rerank", {"query": "c" * 51, "documents": ["cat"]}, 422, "input_too_long"),
        ("/search", {"queries": ["cat"] * 4}, 422, "too_many_inputs"),
        ("/search", {"queries": ["cat"] * 3, "limit": 7}, 422, "too_many_hits"),
        ("/search", {"query": "c" * 2000}, 413, "request_too_large"),
    ],
)
def test_a_request_that_asks_too_much_says_what_is_allowed(
    locked: str, path: str, body: object, status: int, code: str
) -> None:
    answer = httpx.post(f"{locked}{path}", json=body, headers={"Authorization": "Bearer first"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "expected: at most" in answer.json()["error"]["message"]


def test_a_body_without_a_length_is_cut_off_too(locked: str) -> None:
    pieces = (b'{"query": "' if n == 0 else b"c" * 500 for n in range(10))
    answer = httpx.post(f"{locked}/search", content=pieces, headers={"Authorization": "Bearer first", **JSON})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "JSON"), (b"{", "JSON"), (b'"text"', "an object"), (b"\xff\xfe", "JSON")]
)
def test_what_is_no_request_says_so(locked: str, content: bytes, message: str) -> None:
    answer = httpx.post(f"{locked}/search", content=content, headers={"Authorization": "Bearer first", **JSON})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_clients_that_send_half_a_body_take_no_room_from_others(tmp_path: Path, fakes: Registry) -> None:
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
    app = application(Served([animals(tmp_path, fakes)], registry=fakes), limits=Limits(body_seconds=600))
    with served(app) as url, ExitStack() as stack:
        before = descriptors()
        place = ("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(385):
            connected = stack.enter_context(socket.create_connection(place, timeout=60))
            with suppress(OSError):  # it may be refused
                connected.sendall(head + b'{"query":')

        def is_answered() -> bool:
            with suppress(httpx.TransportError):
                return httpx.post(f"{url}/search", json={"query": "cat"}, timeout=60).status_code == 200
            return False

        until(is_answered)
        stack.close()
        until(lambda: descriptors() <= before + 5)


def descriptors() -> int:
    """Files and sockets that this process has open."""
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_unknown_routes_name_those_that_there_are(url: str) -> None:
    assert "POST /search" in httpx.get(f"{url}/nowhere").json()["error"]["message"]
    assert httpx.get(f"{url}/search").status_code == 405


def test_pages_of_other_sites_may_not_ask_unless_told(url: str, tmp_path: Path, fakes: Registry) -> None:
    ask = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{url}/search", headers=ask).headers
    app = application(Served(registry=fakes), origins=["https://app.example.org"], keys=Keys(["k"]))
    with served(app) as other:
        allowed = httpx.options(f"{other}/search", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.org"
        stranger = httpx.options(f"{other}/search", headers={**ask, "Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in stranger.headers


def test_a_page_of_another_site_is_not_answered_though_its_request_needs_no_leave(url: str, fakes: Registry) -> None:
    def status(where: str, **headers: str) -> int:
        return httpx.post(f"{where}/rerank", json={"query": "a", "documents": ["b"]}, headers=headers).status_code

    assert status(url) == status(url, **JSON) == 200
    assert status(url, Origin="https://evil.example.org") == 403
    assert status(url, Origin="null") == 403
    app = application(Served(adapters=["fake-reranker"], registry=fakes), origins=["https://app.example.org"])
    with served(app) as other:
        assert status(other, Origin="https://app.example.org") == 200
        assert status(other, Origin="https://evil.example.org") == 403
    with served(application(Served(adapters=["fake-reranker"], registry=fakes), origins=["*"])) as anybody:
        assert status(anybody, Origin="https://evil.example.org") == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/json; charset=utf-8"])
def test_json_that_is_not_called_so_is_refused(url: str, kind: str) -> None:
    answer = httpx.post(f"{url}/search", content=b'{"query": "cat"}', headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    good = {"Content-Type": "application/json; charset=utf-8"}
    assert httpx.post(f"{url}/search", content=b'{"query": "cat"}', headers=good).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (EmbeddingsRequest, {"model": "dense", "input": ["a"] + [{}] * 1500}),
        (RerankRequest, {"query": "a", "documents": ["a"] + [7] * 1500}),
        (SearchRequest, {"queries": ["a"] + [None] * 1500}),
        (SearchRequest, {"query": "a", "with_payload": list(range(1500))}),
    ],
)
def test_of_many_wrong_items_only_the_first_is_looked_at(kind: type[BaseModel], body: object) -> None:
    with pytest.raises(Refused) as raised:
        parsed(json.dumps(body).encode(), kind, Limits())
    assert raised.value.status == 400
    found = raised.value.__context__
    assert isinstance(found, ValidationError)
    assert found.error_count() <= 2  # of a union one for each kind


@pytest.mark.parametrize(
    "body",
    [
        b'{"queries": ["", ' + b'"a", ' * 300_000 + b'"a"]}',
        b"{" + b", ".join(b'"key%d": 1' % n for n in range(100_000)) + b"}",
        b"[" * 1_000_000,
        b'{"query": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"query": "a", "limit": ' + b"9" * 5000 + b"}",
        b'{"query": "a", "limit": 1e999}',
        b'{"query": "a", "offset": 9223372036854775807}',
        rb'{"query": "half \ud800"}',
    ],
)
def test_large_deep_and_odd_bodies_are_refused(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/search", content=body, headers=JSON, timeout=120)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 2000


def test_a_name_that_is_not_the_services_is_not_answered(fakes: Registry) -> None:
    with served(application(Served(registry=fakes), hosts=["127.0.0.1", "localhost"])) as url:
        assert httpx.get(f"{url}/v1/models").status_code == 200
        for host in ("evil.example.org:80", "localhost:evil", "evil@localhost", "localhost:80:80", "localhost?evil"):
            assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code in (400, 421), host


def test_a_body_that_does_not_come_is_not_waited_for(fakes: Registry) -> None:
    with (
        served(application(Served(registry=fakes), limits=Limits(body_seconds=0.1))) as url,
        closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as client,
    ):
        client.putrequest("POST", "/search")
        for name, value in {**JSON, "Content-Length": "16"}.items():
            client.putheader(name, value)
        client.endheaders(b'{"query": ')  # and the rest never comes
        answer = client.getresponse()
        assert (answer.status, json.load(answer)["error"]["code"]) == (408, "timeout")
