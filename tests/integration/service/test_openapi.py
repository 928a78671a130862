"""The OpenAPI document: valid, complete, and true of what the service answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from diptych_serve.service.answers import openapi
from diptych_serve.service.application import ROUTES, WRITING


def test_it_is_a_valid_document_of_openapi() -> None:
    validate(openapi(writes=False))
    validate(openapi(writes=True))


def test_it_has_every_route_with_its_methods() -> None:
    document = openapi(writes=True)
    told = {(path, method.upper()) for path, own in document["paths"].items() for method in own}
    routes = {
        (route.path.replace(":path", ""), method)
        for route in (*ROUTES, *WRITING)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert told == routes


def test_the_service_gives_it(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == openapi()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/search", {"query": "cat", "explain": True}),
        ("post", "/v1/embeddings", {"model": "dense", "input": ["cat"]}),
        ("post", "/v1/embeddings", {"model": "dense", "input": "cat", "encoding_format": "base64"}),
        ("get", "/v1/models", None),
        ("post", "/rerank", {"query": "cat", "documents": ["a", {"text": "b"}], "return_documents": True}),
        ("get", "/healthz", None),
        ("get", "/readyz", None),
        ("post", "/search", {"quary": "cat"}),
        ("post", "/v1/embeddings", {"model": "nobody", "input": "cat"}),
    ],
)
def test_requests_and_answers_are_as_it_says(client: httpx.Client, method: str, path: str, body: Any) -> None:
    document = openapi()
    operation = document["paths"][path][method]
    answer = client.request(method, path, json=body) if body is not None else client.request(method, path)
    if body is not None and answer.status_code == 200:
        check(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    check(document, schema, answer.json())


def check(document: dict[str, Any], schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)
