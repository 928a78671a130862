"""The OpenAPI document: valid, complete, and true of what the service answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from diptych_serve.service.answers import openapi
from diptych_serve.service.routes import READING, WRITING


def test_it_is_a_valid_document_of_openapi() -> None:
    validate(openapi(READING))
    validate(openapi([*READING, *WRITING]))


def test_the_service_gives_it(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == openapi(READING)


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
    document = openapi(READING)
    operation = document["paths"][path][method]
    answer = client.request(method, path, json=body) if body is not None else client.request(method, path)
    if body is not None and answer.status_code == 200:
        check(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    check(document, schema, answer.json())


def check(document: dict[str, Any], schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)
