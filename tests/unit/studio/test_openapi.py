"""The OpenAPI document has Studio's API, and its answers are as it says."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.routing import Route
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych_serve.service.access import Keys
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.answers import Found, Grades, Located, ShownDocument, Snippets, State
from diptych_serve.studio.page import API
from diptych_serve.studio.routes import OPERATIONS, ROUTES, studio

QUESTION = {"query": "the cat at night", "explain": True}


def test_it_has_every_route_of_the_api(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    told = {(path, method.upper()) for path, own in document["paths"].items() for method in own}
    routes = {
        (route.path, method)
        for route in ROUTES
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith(API)
    }
    assert routes == {pair for pair in told if pair[0].startswith(API)}
    assert len(OPERATIONS) == len(routes)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path.startswith(API)], ids=lambda own: own.path)
def test_every_route_of_the_api_needs_the_key_and_takes_no_form(
    collection: Collection, fakes: Registry, route: Route
) -> None:
    app = application(Served([collection], registry=fakes), keys=Keys(["secret"]), extension=studio(writes=True))
    client, path = TestClient(app), route.path.replace("{id}", "x")
    for method in (route.methods or set()) - {"HEAD"}:
        assert client.request(method, path).status_code == 401
        keyed = client.request(method, path, headers={"Authorization": "Bearer secret"}, data={"confirm": "animals"})
        assert keyed.status_code in ((415, 403, 404) if method == "POST" else (200, 400, 403, 404)), keyed.text


@pytest.mark.parametrize(
    ("route", "body", "model"),
    [
        ("search", QUESTION, Found),
        ("search", {**QUESTION, "side": "part:dbsf"}, Found),
        ("search", {"query": "the cat"}, Found),
        ("locate", {"query": "cat", "id": "hen"}, Located),
        ("locate", {"query": "cat", "id": "nobody"}, Located),
        ("snippets", {"query": "cat"}, Snippets),
        ("grades", {"query": "cat"}, Grades),
        ("document", {"id": "hen"}, ShownDocument),
    ],
)
def test_answers_are_as_it_says(client: TestClient, route: str, body: Any, model: type[BaseModel]) -> None:
    answer = client.post(f"{API}/{route}", json=body)
    found = model.model_validate_json(answer.content)
    assert found.model_dump(mode="json", exclude_unset=True) == answer.json()


def test_the_state_is_as_it_says(client: TestClient) -> None:
    answer = client.get(f"{API}/state")
    assert State.model_validate_json(answer.content).model_dump(mode="json") == answer.json()


def test_docs_lead_to_the_pages_own_view(client: TestClient) -> None:
    answer = client.get("/docs", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/studio/#/docs")
