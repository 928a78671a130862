"""The OpenAPI document has Studio's API, its answers are as it says, and the page's types are made of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych_serve.service.access import Keys
from diptych_serve.service.answers import Operation
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.answers import Found, Grades, Located, Snippets, State
from diptych_serve.studio.routes import API, OPERATIONS, studio

SOURCES = Path(__file__).parents[3] / "plugin" / "studio_page"


def test_it_is_valid_with_every_route_of_the_api(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    told = {(path, method) for path, own in document["paths"].items() for method in own if path.startswith(API)}
    assert told == {(own.path, own.method) for own in OPERATIONS}


def test_the_pages_types_are_those_of_the_document() -> None:
    made = runpy.run_path(str(SOURCES / "answer_types.py"))["typescript"]()
    assert made == (SOURCES / "src" / "answers.ts").read_text(), "run `make studio-page`, and commit what it makes"


@pytest.mark.parametrize("own", OPERATIONS, ids=lambda own: f"{own.method} {own.path}")
def test_every_route_of_the_api_needs_the_key_and_takes_no_form(
    collection: Collection, fakes: Registry, own: Operation
) -> None:
    app = application(Served([collection], registry=fakes), keys=Keys(["secret"]), extension=studio(writes=True))
    client, path = TestClient(app), own.path.replace("{id}", "x")
    assert client.request(own.method, path).status_code == 401
    keyed = client.request(own.method, path, headers={"Authorization": "Bearer secret"}, data={"confirm": "animals"})
    assert keyed.status_code in ((415,) if own.method == "post" else (200, 400, 403, 404)), keyed.text


@pytest.mark.parametrize(
    ("route", "body", "model"),
    [
        ("search", {"query": "the cat at night", "side": "part:dbsf"}, Found),
        ("locate", {"query": "cat", "id": "hen"}, Located),
        ("locate", {"query": "cat", "id": "nobody"}, Located),
        ("snippets", {"query": "cat"}, Snippets),
        ("grades", {"query": "cat"}, Grades),
        ("state", None, State),
    ],
)
def test_answers_hold_every_field(client: TestClient, route: str, body: Any, model: type[BaseModel]) -> None:
    answer = client.post(f"{API}/{route}", json=body) if body else client.get(f"{API}/{route}")
    assert model.model_validate_json(answer.content).model_dump(mode="json") == answer.json()


def test_docs_lead_to_the_pages_own_view(client: TestClient) -> None:
    answer = client.get("/docs", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/studio/#/docs")
