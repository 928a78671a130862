"""The service's answers as pydantic models, which MCP gives as well, and `openapi`, the document of its routes.

`populated` populates a collection and makes the answer.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from diptych import __version__
from diptych.collection.collection import Collection
from diptych.collection.explanation import Explanation, SlotScore
from diptych.collection.populate_methods import log_report
from diptych.config.secrets import redacted
from diptych.media import Media, RawMedia
from diptych.populate import populate
from diptych.reports import CollectionInfo, PopulateReport, SlotInfo
from diptych.types import Highlight, Hit, Passage
from diptych_serve.service.requests import (
    DocumentsRequest,
    EmbeddingsRequest,
    PopulateOptions,
    RerankRequest,
    SearchRequest,
)

REFERENCE = "#/components/schemas/{model}"
_REFUSALS = (400, 404, 408, 413, 415, 422, 429, 500, 503)


class FoundPassage(BaseModel):
    """A part of a document, by its characters in the document's text."""

    text: str
    start: int
    end: int
    score: float = Field(description="Score of the passage, on the scale of its slot; higher is better.")


class FoundHighlight(BaseModel):
    """What of a document answers the query."""

    sentence: FoundPassage | None = Field(None, description="The sentence nearest to the query.")
    words: list[tuple[int, int]] = Field(
        default_factory=list, description="Start and end of each matching word in the document's text."
    )


class FoundMedia(BaseModel):
    """A picture, sound, clip, series or point cloud of a document."""

    source: str = Field("", description="Path below the collection's media folder, or URL; empty if there is none.")
    digest: str = Field(description="The first 32 hexadecimal digits of the SHA-256 of its bytes.")
    bytes: int = Field(description="Size in bytes.")


class FoundDocument(BaseModel):
    """A hit."""

    id: str = Field(description="The document's own id.")
    score: float = Field(description="Score of the last stage that ranked it; higher is better, within one answer.")
    title: str = ""
    text: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict, description="JSON values to filter by.")
    stages: dict[str, float] = Field(default_factory=dict, description="Scores by stage.")
    passages: list[FoundPassage] = Field(
        default_factory=list, description="Best passages of the document, best first, if a slot has passages."
    )
    highlight: FoundHighlight | None = Field(None, description="Best sentence and matching words, if requested.")
    media: dict[str, FoundMedia] = Field(default_factory=dict, description="The document's media by modality.")

    @classmethod
    def of(cls, hit: Hit) -> FoundDocument:
        """From a hit."""
        return cls(**hit_fields(hit))


class MatchedTerm(BaseModel):
    """A word that query and document share; contribution = query * document * idf."""

    word: str
    query: float
    document: float
    idf: float
    contribution: float


class VectorBlock(BaseModel):
    """A block of a dense vector."""

    name: str
    width: int
    contribution: float = Field(description="Part of the slot's score; the parts of all blocks add up to it.")


class SlotPart(BaseModel):
    """A document in one slot."""

    score: float | None = Field(None, description="Similarity to the query; null if the slot gives none.")
    rank: int | None = Field(None, description="Rank among the slot's candidates, from 1; null if it is none.")
    contribution: float | None = Field(None, description="What the slot adds to the fused score.")
    terms: list[MatchedTerm] = Field(default_factory=list, description="Sparse slot: the matching words.")
    blocks: list[VectorBlock] = Field(default_factory=list, description="Dense slot with blocks: their contributions.")
    passage: FoundPassage | None = Field(None, description="Slot with passages: the best one, its text shortened.")
    passages: int = Field(0, description="Number of the document's passages in the slot.")

    @classmethod
    def of(cls, part: SlotScore) -> SlotPart:
        """From an explanation's part."""
        return cls.model_validate(dataclasses.asdict(part))


class ExplainedDocument(BaseModel):
    """Why a document has its rank: the slots' contributions add up to the fused score."""

    id: str
    rank: int | None = Field(None, description="Rank among the hits, from 1; null if it is no hit.")
    score: float | None = None
    slots: dict[str, SlotPart] = Field(default_factory=dict, description="The document's scores in each slot.")
    fused: float | None = Field(None, description="Sum of the slots' contributions.")
    boosts: dict[str, float] = Field(default_factory=dict, description="What each boost adds.")
    stages: dict[str, float] = Field(default_factory=dict, description="Scores of later stages, such as rerankers.")
    lost: str = Field("", description="Where it was dropped, if it is no hit.")
    notes: list[str] = Field(default_factory=list, description="Notes on this search.")

    @classmethod
    def of(cls, item: Explanation) -> ExplainedDocument:
        """From an explanation."""
        return cls(
            id=item.document.id,
            rank=item.rank,
            score=item.score,
            slots={name: SlotPart.of(part) for name, part in item.slots.items()},
            fused=item.fused,
            boosts=dict(item.boosts),
            stages=dict(item.stages),
            lost=item.lost,
            notes=list(item.notes),
        )


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


class SlotDescription(BaseModel):
    """A slot: what kind of encoder made its vectors."""

    name: str
    kind: str = Field(description="dense, sparse, multivector or text_index.")
    adapter: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, slot: SlotInfo) -> SlotDescription:
        """Describe a slot, with possible secrets redacted."""
        return cls(name=slot.name, kind=slot.kind, adapter=slot.adapter, options=redacted(slot.options))


class CollectionDescription(BaseModel):
    """A collection: its size, slots and pipeline."""

    name: str
    documents: int
    slots: list[SlotDescription]
    pipeline: str = Field("", description="The stages of a search.")
    tenant_field: str = Field("", description="Metadata key that names a document's tenant; requests must name one.")

    @classmethod
    def of(cls, info: CollectionInfo, pipeline: str) -> CollectionDescription:
        """Describe a collection."""
        slots = [SlotDescription.of(slot) for slot in info.slots]
        facts = {"name": info.name, "documents": info.documents, "tenant_field": info.tenant_field}
        return cls(**facts, slots=slots, pipeline=pipeline)


class SetAsideDocument(BaseModel):
    """A rejected document and the reason."""

    id: str
    reason: str


class PopulateAnswer(BaseModel):
    """The counts of a populate."""

    collection: str
    read: int
    new: int
    changed: int
    unchanged: int
    duplicates: int = Field(description="Documents whose id came twice.")
    deleted: int = Field(description="Documents that `sync` deleted.")
    deleted_examples: list[str] = Field(description="Ids of some of them.")
    set_aside: int = Field(description="Documents that cannot be indexed.")
    examples: list[SetAsideDocument] = Field(description="The first of those that cannot be indexed.")
    warnings: list[str]
    dry_run: bool = Field(description="Whether the counts say what would be done, and nothing was written.")

    @classmethod
    def of(cls, report: PopulateReport) -> PopulateAnswer:
        """From the report of a populate."""
        rejected = [SetAsideDocument(id=example.id, reason=example.reason) for example in report.examples]
        names = cls.model_fields.keys() - {"examples"}
        facts = {name: getattr(report, name) for name in names}
        facts |= {name: list(facts[name]) for name in ("deleted_examples", "warnings")}
        return cls(**facts, examples=rejected)


def populated(collection: Collection, rows: Iterable[Any], options: Mapping[str, Any]) -> PopulateAnswer:
    """Populate and return the answer; rejected documents are listed in it, not in a file of the server.

    Raises:
        DiptychError: see `Collection.populate`.
    """
    with tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        report_path = Path(folder) / "rejected.jsonl"
        report = populate(collection.handle, rows, report_path=report_path, **options)
    log_report(report, rejected=False)  # the answer names them, and they may quote documents
    return PopulateAnswer.of(report)


def hit_fields(hit: Hit) -> dict[str, Any]:
    """The fields of a `FoundDocument`."""
    document = hit.document
    return {
        "id": document.id,
        "score": hit.score,
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
        "stages": dict(hit.stages),
        "passages": [passage_fields(passage) for passage in hit.passages],
        "highlight": None if hit.highlight is None else highlight_fields(hit.highlight),
        "media": {modality: media_fields(found) for modality, found in document.media.items()},
    }


def media_fields(media: RawMedia) -> dict[str, Any]:
    """The fields of a `FoundMedia`."""
    assert isinstance(media, Media), "a collection returns media that were read"
    return {"source": media.source, "digest": media.digest, "bytes": media.bytes}


def highlight_fields(highlight: Highlight) -> dict[str, Any]:
    """The fields of a `FoundHighlight`."""
    sentence = None if highlight.sentence is None else passage_fields(highlight.sentence)
    return {"sentence": sentence, "words": [list(place) for place in highlight.words]}


def passage_fields(passage: Passage) -> dict[str, Any]:
    """The fields of a `FoundPassage`."""
    return {"text": passage.text, "start": passage.start, "end": passage.end, "score": passage.score}


def documents_of(hits: Iterable[Hit]) -> list[FoundDocument]:
    """The hits, in order."""
    return [FoundDocument.of(hit) for hit in hits]


def explained(items: Iterable[Explanation]) -> list[ExplainedDocument]:
    """The explanations, in order."""
    return [ExplainedDocument.of(item) for item in items]


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
