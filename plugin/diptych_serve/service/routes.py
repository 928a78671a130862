"""The routes that search, write documents, encode and rerank, those for monitoring, and the table of all of them."""

from __future__ import annotations

import asyncio
import base64
import re
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from diptych import Collection
from diptych.collection.explain import explained_hits
from diptych.errors import AdapterOptionsError, PopulateError
from diptych.populate import open_source
from diptych.protocols import Kind
from diptych.reports import PopulateReport
from diptych.search import explain_options
from diptych.search.filters import combined, logged_warnings
from diptych.slots.encode import Vector
from diptych.types import Floats, Hit, Query
from diptych_serve.service.access import Limits
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import (
    EmbeddingsAnswer,
    ExplainedDocument,
    ModelAnswer,
    ModelsAnswer,
    Operation,
    RerankAnswer,
    RerankedDocument,
    SearchAnswer,
    StatusAnswer,
    openapi,
    populated,
)
from diptych_serve.service.context import Serving, Writes, json_of
from diptych_serve.service.requests import (
    DocumentsRequest,
    EmbeddingsRequest,
    PopulateOptions,
    RerankRequest,
    SearchBody,
    SearchRequest,
    example_texts,
    of_words,
    pieces,
    read,
    read_query,
    require_kind,
    require_question,
    require_room,
    require_words,
)
from diptych_serve.service.served import Model, Served

LISTED: tuple[Kind, ...] = ("dense", "reranker")  # kinds that a client can name
INLINE_NUMBERS = 50_000  # numbers and characters that are written within the event loop; more are written in a thread
_WORDS = re.compile(r"\w+|[^\w\s]")

EXPLAINED = 100  # hits of a request that are explained at most
INLINE = 100  # hits that are written within the event loop; more are written in a thread

LINES = ("application/x-ndjson", "application/jsonl")
UPLOAD_RATE = 32 * 1024  # bytes per second that an upload has on average after `Limits.body_seconds`


async def put_documents(request: Request) -> Response:
    """`PUT /documents`: write some documents; one with a known id replaces that document."""
    serving, writes = _writable(request)
    with writes.room():
        body = await read(request, DocumentsRequest, serving.limits)
        collection = serving.served.collection(body.collection)
        options: dict[str, Any] = {"dry_run": body.dry_run, "tenant": body.tenant, "yes": True}
        rows = of_words(collection, writes.until_stopped(body.documents))
        return json_of(await writes.run(lambda: populated(collection, rows, **options)))


async def populate(request: Request) -> Response:
    """`POST /populate`: write documents from JSON lines, any number; `sync` deletes those that are missing."""
    serving, writes = _writable(request)
    require_kind(request, LINES)
    params = read_query(request, PopulateOptions)
    collection = serving.served.collection(params.collection)
    options = params.model_dump(exclude={"collection"})
    with writes.room(), tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        path = Path(folder) / "request.jsonl"
        with path.open("wb") as file:
            async for piece in pieces(request, serving.limits, serving.limits.upload, UPLOAD_RATE):
                await asyncio.to_thread(file.write, piece)
        try:
            rows = of_words(collection, writes.until_stopped(open_source(path)))
            return json_of(await writes.run(lambda: populated(collection, rows, **options)))
        except PopulateError as error:
            if "lost" in error.context:  # documents would lose their media
                raise Refused(409, str(error), code="populate_error") from error
            if error.where.startswith(path.name):  # what was sent is at fault
                raise Refused(400, str(error), code="populate_error") from error
            raise


def _writable(request: Request) -> tuple[Serving, Writes]:
    serving = Serving.of(request)
    assert serving.writes is not None, "the routes are there only where writes are allowed"
    return serving, serving.writes


async def search(request: Request) -> Response:
    """`POST /search`."""
    serving = Serving.of(request)
    body = await read(request, SearchRequest, serving.limits)
    texts = body.texts
    require_room(serving.limits, texts, param="query" if body.query is not None else "queries")
    collection = serving.served.collection(body.collection)
    options = body.options
    require_room(serving.limits, example_texts(options), param="like")
    require_question(collection, [*texts, *example_texts(options)], body.media)
    _require_few(body, collection.handle.search_config.limit, serving.limits)
    if len(texts) == 1:  # joined with those of other requests
        hits: Sequence[list[Hit]] = [await collection.asearch(*body.questions, **options)]
    else:
        hits = await asyncio.to_thread(lambda: collection.search_batch(texts, **options))
    serving.metrics.queries.labels(collection.name).inc(len(texts))
    if not body.explain and sum(map(len, hits)) <= INLINE:
        return _response(collection, body, hits)
    return await asyncio.to_thread(_response, collection, body, hits)


def _response(collection: Collection, body: SearchBody, hits: Sequence[list[Hit]]) -> Response:
    """The answer in the format of `SearchAnswer`, without building its models: that took four times as long."""
    results: list[dict[str, Any]] = [
        {"query": text, "hits": [hit.as_dict() for hit in query_hits]}
        for text, query_hits in zip(body.texts, hits, strict=True)
    ]
    if body.explain:
        for result, question, query_hits in zip(results, body.questions, hits, strict=True):
            result["explanations"] = _explained(collection, question, query_hits, body)
    answer: dict[str, Any] = {"collection": collection.name, "results": results}
    if not any(hits) and (filter := combined(body.options.get("filter"), body.options.get("where"))):
        warnings = logged_warnings(collection.handle.view, filter, tenant=body.options.get("tenant"))
        answer |= {"warnings": warnings} if warnings else {}  # according to the search just made
    return json_of(answer)


def _explained(
    collection: Collection, query: str | Query, hits: list[Hit], body: SearchBody
) -> list[ExplainedDocument]:
    same, ids = explain_options(body.options), [hit.id for hit in hits]
    found = explained_hits(lambda ids: collection.explain(query, ids=ids, **same), ids)
    return [*map(ExplainedDocument.model_validate, found)]


def _require_few(body: SearchBody, default: int, limits: Limits) -> None:
    options = body.options
    each = (options.get("offset") or 0) + (options.get("limit") or default)
    requested = len(body.texts) * each
    limit = EXPLAINED if body.explain else limits.hits
    if requested > limit:
        raise Refused(
            422,
            f"a request for too many hits\n  got: {len(body.texts)} queries x {each} hits, skipped ones included\n"
            f"  expected: at most {limit} hits{' with explanations' if body.explain else ''}\n"
            "  do: lower `limit` or `offset`, or send several requests",
            code="too_many_hits",
            param="limit",
        )


async def embeddings(request: Request) -> Response:
    """`POST /v1/embeddings`."""
    serving = Serving.of(request)
    body = await read(request, EmbeddingsRequest, serving.limits)
    require_room(serving.limits, body.input, param="input")
    model = serving.served.model(body.model, "dense")
    require_words(body.input, model.encoders[model.name].accepts, where=f"model {model.id!r}")
    dimension = body.dimensions and await asyncio.to_thread(_requested_dimension, model, body.dimensions)
    vectors: Sequence[Any] = await serving.batches.encode(model, body.input_type or "document", body.input)
    if sum(map(len, body.input)) + sum(vector.size for vector in vectors) <= INLINE_NUMBERS:
        return _embedded(body, vectors, dimension)
    return await asyncio.to_thread(_embedded, body, vectors, dimension)


def _embedded(body: EmbeddingsRequest, vectors: Sequence[Vector], dimension: int | None) -> Response:

    def encoded(row: Floats) -> Any:
        """The numbers, or the base64 of float32 with the low byte first."""
        if body.encoding_format == "float":
            return np.ascontiguousarray(row)
        return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")

    data = [
        {"object": "embedding", "index": place, "embedding": encoded(row)}
        for place, row in enumerate(_shortened(vectors, dimension))
    ]
    # Words and punctuation marks are an estimate of tokens, which only the tokenizer knows.
    count = sum(len(_WORDS.findall(text)) for text in body.input)
    usage = {"prompt_tokens": count, "total_tokens": count}
    answer = {"object": "list", "data": data, "model": body.model, "usage": usage}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


async def models(request: Request) -> Response:
    """`GET /v1/models`."""
    serving = Serving.of(request)
    data = [_listed_model(serving, model) for model in serving.served.models() if model.kind in LISTED]
    return json_of(ModelsAnswer(object="list", data=data))


async def model(request: Request) -> Response:
    """`GET /v1/models/MODEL`."""
    serving = Serving.of(request)
    return json_of(_listed_model(serving, serving.served.model(request.path_params["model"], *LISTED)))


def _listed_model(serving: Serving, model: Model) -> ModelAnswer:
    kind: Any = model.kind
    return ModelAnswer(id=model.id, object="model", created=serving.started, owned_by="diptych", kind=kind)


def _requested_dimension(model: Model, dimensions: int) -> int | None:
    """The requested dimension, None for whole vectors.

    Raises:
        AdapterOptionsError: the slot does not say that its vectors may be cut, or not so short.
    """
    encoder = model.encoders[model.name]
    dimension, shortest = encoder.dimension, encoder.shortest
    if dimensions == dimension:
        return None
    if shortest is not None and shortest <= dimensions < dimension:
        return dimensions
    raise AdapterOptionsError(
        f"model {model.id!r} does not give vectors of this length",
        where="dimensions",
        got=dimensions,
        expected=f"{dimension}" if shortest is None else f"{shortest} to {dimension}",
        do="" if shortest else "leave it out; a slot allows it by `storage: {first_stage: ...}`, for Matryoshka models",
    )


def _shortened(vectors: Sequence[Vector], dimension: int | None) -> Sequence[Any]:
    """The vectors, or their first numbers, rescaled to length 1 if the whole vectors have that."""
    if dimension is None:
        return vectors
    vectors_array: Floats = np.stack([np.asarray(vector) for vector in vectors])
    shortened, norms = vectors_array[:, :dimension], np.linalg.norm(vectors_array, axis=1)
    unit = np.isclose(norms, 1, atol=1e-3)
    lengths = np.where(unit, np.linalg.norm(shortened, axis=1), 1)
    return list((shortened / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32))


async def rerank(request: Request) -> Response:
    """Documents of one query by relevance, best first; ties stay in their order."""
    serving = Serving.of(request)
    body = await read(request, RerankRequest, serving.limits)
    texts = body.texts
    require_room(serving.limits, [body.query], param="query")
    require_room(serving.limits, texts, param="documents")
    model = _reranker(serving.served, body.model)
    scores = await serving.batches.score(model, [(body.query, text) for text in texts])
    order = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
    results = [
        RerankedDocument(
            index=place,
            relevance_score=float(scores[place]),
            document={"text": texts[place]} if body.return_documents else None,
        )
        for place in order
    ]
    version = "2" if request.url.path.startswith("/v2") else "1"
    meta = {"api_version": {"version": version}, "billed_units": {"search_units": 1}}
    answer = RerankAnswer(id=str(uuid.uuid4()), model=model.id, results=results, meta=meta)
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


def _reranker(served: Served, name: str | None) -> Model:
    """The reranker of this name, or the only one.

    Raises:
        UnknownAdapter, AdapterOptionsError: as `Served.model`; or there are several to choose from.
    """
    if name is not None:
        return served.model(name, "reranker")
    rerankers = [model for model in served.models() if model.kind == "reranker"]
    if len(rerankers) != 1:
        names = ", ".join(model.id for model in rerankers)
        what = "several rerankers are served" if rerankers else "no reranker is served"
        do = "name one as `model`" if rerankers else "serve one: diptych serve --adapter cross-encoder:MODEL"
        raise AdapterOptionsError(what, where="model", expected=names, do=do)
    return rerankers[0]


async def healthz(request: Request) -> Response:
    """`GET /healthz`: the process answers."""
    return json_of({"status": "ok"})


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 200 while everything that is served can answer and its stores respond; else 503."""
    state = await Serving.of(request).readiness.now()
    return json_of({"status": state}, 200 if state == "ready" else 503)


async def metrics(request: Request) -> Response:
    """`GET /metrics`, for Prometheus."""
    collected = Serving.of(request).metrics
    return Response(collected.text(), headers={"Content-Type": collected.content_type})


async def description(request: Request) -> Response:
    """`GET /openapi.json`: the API, for client generators."""
    return json_of(openapi(request.app.state.operations))


READING = (  # starlette looks at them in this order
    Operation("post", "/search", "Search a collection", search, SearchAnswer, SearchRequest),
    Operation(
        "post", "/v1/embeddings", "Vectors of texts", embeddings, EmbeddingsAnswer, EmbeddingsRequest, errors=(502,)
    ),
    Operation("get", "/v1/models", "What can be named as a model", models, ModelsAnswer),
    Operation("get", "/v1/models/{model:path}", "One model", model, ModelAnswer),
    *(
        Operation("post", path, "Documents by relevance", rerank, RerankAnswer, RerankRequest, errors=(502,))
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    Operation("get", "/healthz", "Whether the process answers", healthz, StatusAnswer, open=True),
    Operation("get", "/readyz", "Whether all can answer", readyz, StatusAnswer, open=True, errors=(503,)),
    Operation("get", "/metrics", "Numbers for Prometheus", metrics),
    Operation("get", "/openapi.json", "This document", description),
)
WRITING = (
    Operation(
        "put", "/documents", "Bring some documents in", put_documents, PopulateReport, DocumentsRequest, errors=(507,)
    ),
    Operation(
        "post",
        "/populate",
        "Bring in the documents of JSON lines",
        populate,
        query=PopulateOptions,
        lines=True,
        errors=(409, 507),
    ),
)
