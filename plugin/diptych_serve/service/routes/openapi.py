"""`openapi`: the service's OpenAPI document, made from the pydantic models that read requests and write answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from diptych import __version__
from diptych_serve.service.bodies import (
    DocumentsRequest,
    EmbeddingsRequest,
    PopulateOptions,
    RerankRequest,
    SearchRequest,
)
from diptych_serve.service.search_answers import PopulateAnswer, SearchAnswer

REFERENCE = "#/components/schemas/{model}"
_REFUSALS = (400, 404, 408, 413, 415, 422, 429, 500, 503)


class Embedding(BaseModel):
    """The vector of one input: numbers, or the base64 of float32 with the low byte first."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Words and punctuation marks of the inputs: an estimate of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelAnswer(BaseModel):
    """An available model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Literal["dense", "reranker"]


class ModelsAnswer(BaseModel):
    """The available models."""

    object: Literal["list"]
    data: list[ModelAnswer]


class RerankedDocument(BaseModel):
    """A document by its place in the request, with its score."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = Field(None, description="The document, if `return_documents` is set.")


class RerankAnswer(BaseModel):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankedDocument]
    meta: dict[str, Any]


class StatusAnswer(BaseModel):
    """The state of the service."""

    status: Literal["ok", "ready", "starting", "failing"]


class ErrorDetail(BaseModel):
    """What happened and what to do."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetail


class Operation(NamedTuple):
    """One method of one route."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None = None
    asked: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    lines: bool = False
    open: bool = False
    errors: tuple[int, ...] = ()


_READS = (
    Operation("post", "/search", "Search a collection", SearchAnswer, SearchRequest, errors=_REFUSALS),
    Operation(
        "post", "/v1/embeddings", "Vectors of texts", EmbeddingsAnswer, EmbeddingsRequest, errors=(*_REFUSALS, 502)
    ),
    Operation("get", "/v1/models", "What can be named as a model", ModelsAnswer),
    Operation("get", "/v1/models/{model}", "One model", ModelAnswer, errors=(404,)),
    *(
        Operation("post", path, "Documents by relevance", RerankAnswer, RerankRequest, errors=(*_REFUSALS, 502))
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    Operation("get", "/healthz", "Whether the process answers", StatusAnswer, open=True),
    Operation("get", "/readyz", "Whether all that is served can answer", StatusAnswer, open=True, errors=(503,)),
    Operation("get", "/metrics", "Numbers for Prometheus"),
    Operation("get", "/openapi.json", "This document"),
)
_WRITES = (
    Operation(
        "put", "/documents", "Bring some documents in", PopulateAnswer, DocumentsRequest, errors=(*_REFUSALS, 507)
    ),
    Operation(
        "post",
        "/populate",
        "Bring in the documents of JSON lines",
        PopulateAnswer,
        query=PopulateOptions,
        lines=True,
        errors=(*_REFUSALS, 409, 507),
    ),
)


def openapi(*, writes: bool = False, further: Sequence[Operation] = ()) -> dict[str, Any]:
    """The document, version 3.1.

    Args:
        writes: whether to include the routes that write.
        further: operations of an extension.
    """
    operations = [*_READS, *(_WRITES if writes else ()), *further]
    models = {model for operation in operations for model in (operation.answer, operation.asked) if model} | {
        ErrorAnswer
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "diptych",
            "version": __version__,
            "summary": "Search in collections, encoders and rerankers",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    description: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method}{operation.path.title().replace('/', '').replace('{', '').replace('}', '')}",
        "security": [] if operation.open else [{}, {"key": []}],
        "responses": {"200": _response("The answer.", operation.answer)},
    }
    for status in operation.errors:
        answer = StatusAnswer if operation.open else ErrorAnswer
        description["responses"][str(status)] = _response("What went wrong, and what to do.", answer)
    if operation.asked is not None:
        description["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(operation.asked)}},
        }
    if operation.lines:
        lines = {"schema": {"type": "string", "description": "JSON lines: id, text, title, further keys."}}
        description["requestBody"] = {"required": True, "content": {"application/x-ndjson": lines}}
    if parameters := [*_in_path(operation.path), *_in_query(operation.query)]:
        description["parameters"] = parameters
    return description


def _response(description: str, model: type[BaseModel] | None) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(model)}} if model else {}
    return {"description": description, "content": content} if content else {"description": description}


def _reference(model: type[BaseModel]) -> Mapping[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    fields = model.model_json_schema()["properties"] if model else {}
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in fields.items()]
