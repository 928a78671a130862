"""The service's answers as pydantic models, which MCP gives as well, and `openapi`, the document of its routes.

`populated` populates a collection and makes the answer.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from diptych import Collection, __version__
from diptych.collection.explain import SlotScore
from diptych.collection.populate_methods import log_report
from diptych.config.problems import redacted
from diptych.populate import populate
from diptych.reports import PopulateReport
from diptych.types import Highlight, Passage

REFERENCE = "#/components/schemas/{model}"
_REFUSALS, _OF_BODIES = (400, 401, 404, 429, 500, 503), (408, 413, 415, 422)
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class FoundMedia(BaseModel):
    """A picture, sound or clip of a document."""

    source: str = Field("", description="Path below the collection's media folder, or URL; empty if there is none.")
    digest: str = Field(description="The first 32 hexadecimal digits of the SHA-256 of its bytes.")
    bytes: int = Field(description="Size in bytes.")


class FoundDocument(BaseModel):
    """A hit, as `Hit.as_dict` gives it."""

    id: str = Field(description="The document's own id.")
    score: float = Field(description="Score of the last stage that ranked it; higher is better, within one answer.")
    title: str = ""
    text: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict, description="JSON values to filter by.")
    stages: dict[str, float] = Field(default_factory=dict, description="Scores by stage.")
    passages: list[Passage] = Field(
        default_factory=list, description="Best passages of the document, best first, if a slot has passages."
    )
    highlight: Highlight | None = Field(None, description="Best sentence and matching words, if requested.")
    media: dict[str, FoundMedia] = Field(default_factory=dict, description="The document's media by modality.")


class ExplainedDocument(BaseModel, from_attributes=True):
    """Why a document has its rank: the slots' contributions add up to the fused score."""

    id: str = Field(validation_alias=AliasChoices("id", AliasPath("document", "id")))  # of an `Explanation`
    rank: int | None = Field(None, description="Rank among the hits, from 1; null if it is no hit.")
    score: float | None = None
    slots: dict[str, SlotScore] = Field(default_factory=dict, description="The document's scores in each slot.")
    fused: float | None = Field(None, description="Sum of the slots' contributions.")
    boosts: dict[str, float] = Field(default_factory=dict, description="What each boost adds.")
    stages: dict[str, float] = Field(default_factory=dict, description="Scores of later stages, such as rerankers.")
    lost: str = Field("", description="Where it was dropped, if it is no hit.")
    notes: list[str] = Field(default_factory=list, description="Notes on this search.")


class QueryAnswer(BaseModel):
    """The hits of one query, best first."""

    query: str
    hits: list[FoundDocument]
    explanations: list[ExplainedDocument] | None = None


class SearchAnswer(BaseModel):
    """The answers to all queries of a request, in their order."""

    collection: str
    results: list[QueryAnswer]
    warnings: list[str] | None = Field(
        None, description="Filter keys that no document has, if there are no hits; otherwise absent."
    )


class SlotDescription(BaseModel, from_attributes=True):
    """A slot: what kind of encoder made its vectors."""

    name: str
    kind: str = Field(description="dense, sparse, multivector or text_index.")
    adapter: str
    options: Annotated[dict[str, Any], AfterValidator(redacted)] = {}


class CollectionDescription(BaseModel, from_attributes=True):
    """A collection: its size, slots and pipeline."""

    name: str
    documents: int
    slots: list[SlotDescription]
    pipeline: str = Field("", description="The stages of a search.")
    tenant_field: str = Field("", description="Metadata key that names a document's tenant; requests must name one.")


def populated(
    collection: Collection,
    rows: Iterable[Any],
    *,
    tenant: str | None = None,
    sync: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> PopulateReport:
    """Populate and return the report; rejected documents are listed in it, not in a file of the server.

    Args:
        collection, rows, tenant, sync, dry_run: as `Collection.populate`.
        yes: let `sync` delete more than the config allows, and documents lose media.

    Raises:
        DiptychError: see `Collection.populate`.
    """
    options: dict[str, Any] = {"tenant": tenant, "sync": sync, "dry_run": dry_run, "drop_media": yes}
    with tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        path, most = Path(folder) / "rejected.jsonl", 1.0 if yes else None
        report = populate(collection.handle, rows, report_path=path, max_deleted=most, **options)
    log_report(report, rejected=False)  # the answer names them, and they may quote documents
    return replace(report, report_file="")


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
    """One method of one route: what it does, and for the OpenAPI document what it asks and answers.

    `lines`: the body is JSON lines. `open`: it needs no key. `errors`: statuses beside those that every route has.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any = None
    asked: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    lines: bool = False
    open: bool = False
    errors: tuple[int, ...] = ()


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of these operations, version 3.1."""
    models = {model for operation in operations for model in (operation.answer, operation.asked) if model}
    ordered = sorted({*models, ErrorAnswer}, key=lambda model: str(model.__name__))
    _, schemas = TypeAdapter.json_schemas(
        [(model, "validation", TypeAdapter(model)) for model in ordered], ref_template=REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path.replace(":path", ""), {})[operation.method] = _operation(operation)
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
    path = operation.path.replace(":path", "")
    body: dict[str, Any] = {}
    if operation.asked is not None:
        body = {"application/json": {"schema": _reference(operation.asked)}}
    elif operation.lines:
        lines = {"type": "string", "description": "JSON lines: id, text, title, further keys."}
        body = {"application/x-ndjson": {"schema": lines}}
    common = () if operation.open else (*_REFUSALS, *(_OF_BODIES if body else ()))
    refused = _response("What went wrong, and what to do.", StatusAnswer if operation.open else ErrorAnswer)
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    fields = operation.query.model_json_schema()["properties"] if operation.query else {}
    parameters += [{"name": name, "in": "query", "required": False, "schema": own} for name, own in fields.items()]
    return {
        "summary": operation.summary,
        "operationId": operation.method + re.sub("[/{}]", "", path.title()),
        "security": [] if operation.open else [{}, {"key": []}],
        "responses": {
            "200": _response("The answer.", operation.answer),
            **{str(status): refused for status in sorted({*common, *operation.errors})},
        },
        **({"requestBody": {"required": True, "content": body}} if body else {}),
        **({"parameters": parameters} if parameters else {}),
    }


def _response(description: str, model: Any) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": _reference(model)}}} if model else {}
    return {"description": description, **content}


def _reference(model: Any) -> Mapping[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}
