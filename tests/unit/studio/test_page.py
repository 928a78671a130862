"""The page: what is served, to whom, and what a browser may do with it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych_serve.service.access import Keys, Limits
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import API, CSP, studio


def test_the_page_runs_only_what_the_server_serves(client: TestClient) -> None:
    answer = client.get("/studio")
    assert str(answer.url).endswith("/studio/")
    assert "<!doctype html>" in answer.text.lower()
    policy = answer.headers["content-security-policy"]
    assert policy == CSP
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_guide_stands_beside_the_page_and_leads_back(client: TestClient) -> None:
    answer = client.get("/studio/guide.html")
    assert (answer.status_code, answer.headers["content-security-policy"]) == (200, CSP)
    assert "What can be asked</h2>" in answer.text
    links = set(re.findall(r'href="([^"]*)"', answer.text))
    anchors = {f"#{id}" for id in re.findall(r' id="([^"]*)"', answer.text)}
    for link in links - anchors:
        assert client.get(f"/studio/{link.removeprefix('./')}").status_code == 200, link


@pytest.mark.parametrize(
    "path", ["/studio/nothing.js", "/studio/..%2f__init__.py", "/studio/%2e%2e/routes.py", "/studio/api/nothing"]
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "error" in answer.json()


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/studio/").headers["etag"]
    assert client.get("/studio/", headers={"if-none-match": tag}).status_code == 304


def test_the_page_needs_no_key_and_its_data_do(collection: Collection, fakes: Registry) -> None:
    served = Served([collection], registry=fakes)
    client = TestClient(application(served, keys=Keys(["secret"]), extension=studio()))
    assert client.get("/studio/").status_code == 200
    refused = client.get(f"{API}/state")
    assert refused.status_code == 401
    assert refused.headers["content-security-policy"].endswith("sandbox")
    assert client.get(f"{API}/state", headers={"authorization": "Bearer secret"}).json()["key_required"] is True
    assert client.get(API).status_code == client.get(f"{API}/").status_code == 401


def test_the_limits_of_the_service_hold(collection: Collection, fakes: Registry) -> None:
    limits = Limits(body=1000, characters=20)
    client = TestClient(application(Served([collection], registry=fakes), limits=limits, extension=studio(writes=True)))
    for route in ("search", "locate", "snippets"):
        body = {"id": "cat"} if route == "locate" else {}
        answers = [client.post(f"{API}/{route}", json={**body, "query": word * 20}) for word in ("a", "cats", "a" * 60)]
        assert [answer.status_code for answer in answers] == [200, 422, 413], route
    for route in ("grades", "jobs", "swap/rollback"):
        assert client.post(f"{API}/{route}", json={"collection": "c" * 1000}).status_code == 413, route


def test_another_host_or_page_gets_nothing(collection: Collection, fakes: Registry) -> None:
    client = TestClient(application(Served([collection], registry=fakes), hosts=["localhost"], extension=studio()))
    assert client.get(f"{API}/state").status_code == 421
    assert client.get("/studio/").status_code == 421
    there = {"host": "localhost"}
    assert client.get(f"{API}/state", headers=there).status_code == 200
    assert client.get(f"{API}/state", headers={**there, "origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "options", "status"),
    [
        ("localhost:8002", {"hosts": ["localhost"]}, 200),
        ("10.0.0.7:8002", {}, 200),
        ("studio.example", {}, 403),  # any name may lead here, that of another page's too
        ("studio.example", {"hosts": ["studio.example"]}, 200),
        ("studio.example", {"keys": Keys(["secret"])}, 200),
    ],
)
def test_the_page_itself_may_ask(
    collection: Collection, fakes: Registry, host: str, options: dict[str, Any], status: int
) -> None:
    client = TestClient(application(Served([collection], registry=fakes), extension=studio(), **options))
    headers = {"host": host, "origin": f"http://{host}", "authorization": "Bearer secret"}
    assert client.get(f"{API}/state", headers=headers).status_code == status
    assert client.get(f"{API}/state", headers={**headers, "origin": "http://localhost:9999"}).status_code == 403


def test_a_page_may_not_ask_a_service_without_a_page(collection: Collection, fakes: Registry) -> None:
    client = TestClient(application(Served([collection], registry=fakes), hosts=["localhost"]))
    assert client.get("/metrics", headers={"host": "localhost", "origin": "http://localhost"}).status_code == 403
