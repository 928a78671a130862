"""Routes of encoders and rerankers: `/v1/embeddings` and `/v1/models` of OpenAI, `/v1/rerank` of Cohere and Jina."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from diptych.errors import AdapterOptionsError
from diptych.protocols import Kind
from diptych.slots.encode import Vector
from diptych.types import Floats
from diptych_serve.service.allowed_inputs import require_words
from diptych_serve.service.bodies import EmbeddingsRequest, RerankRequest
from diptych_serve.service.model_batches import Model
from diptych_serve.service.requests import read, require_room
from diptych_serve.service.route_context import Serving, json_of
from diptych_serve.service.served import Served

LISTED: tuple[Kind, ...] = ("dense", "reranker")  # kinds that a client can name
INLINE = 50_000  # numbers and characters that are written within the event loop; more are written in a thread
_WORDS = re.compile(r"\w+|[^\w\s]")


async def embeddings(request: Request) -> Response:
    """`POST /v1/embeddings`."""
    serving = Serving.of(request)
    body = await read(request, EmbeddingsRequest, serving.limits)
    require_room(serving.limits, body.input, param="input")
    model = serving.served.model(body.model, "dense")
    require_words(body.input, model.encoders[model.name].accepts, where=f"model {model.id!r}")
    dimension = (
        None if body.dimensions is None else await asyncio.to_thread(_requested_dimension, model, body.dimensions)
    )
    vectors: Sequence[Any] = await serving.batches.encode(model, body.input_type or "document", body.input)
    if sum(map(len, body.input)) + sum(vector.size for vector in vectors) <= INLINE:
        return _answer(body, vectors, dimension)
    return await asyncio.to_thread(_answer, body, vectors, dimension)


def _answer(body: EmbeddingsRequest, vectors: Sequence[Vector], dimension: int | None) -> Response:
    data = [
        {"object": "embedding", "index": place, "embedding": _encoded_row(row, body.encoding_format)}
        for place, row in enumerate(_shortened(vectors, dimension))
    ]
    return json_of({"object": "list", "data": data, "model": body.model, "usage": _usage(body.input)})


async def models(request: Request) -> Response:
    """`GET /v1/models`."""
    serving = Serving.of(request)
    data = [_listed(serving, model) for model in serving.served.models() if model.kind in LISTED]
    return json_of({"object": "list", "data": data})


async def model(request: Request) -> Response:
    """`GET /v1/models/MODEL`."""
    serving = Serving.of(request)
    return json_of(_listed(serving, serving.served.model(request.path_params["model"], *LISTED)))


def _listed(serving: Serving, model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": serving.started, "owned_by": "diptych", "kind": model.kind}


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


def _encoded_row(row: Floats, format: Literal["float", "base64"]) -> Any:
    """The numbers, or the base64 of float32 with the low byte first."""
    if format == "float":
        return np.ascontiguousarray(row)
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")


def _usage(texts: Sequence[str]) -> dict[str, int]:
    """Number of words and punctuation marks, as an estimate of tokens, which only the tokenizer knows."""
    count = sum(len(_WORDS.findall(text)) for text in texts)
    return {"prompt_tokens": count, "total_tokens": count}


async def rerank(request: Request) -> Response:
    """Documents of one query by relevance, best first; ties stay in their order."""
    serving = Serving.of(request)
    body = await read(request, RerankRequest, serving.limits)
    texts = body.texts
    require_room(serving.limits, [body.query], param="query")
    require_room(serving.limits, texts, param="documents")
    model = _model(serving.served, body.model)
    scores = await serving.batches.score(model, [(body.query, text) for text in texts])
    order = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": float(scores[place])} for place in order]
    if body.return_documents:
        results = [{**result, "document": {"text": texts[result["index"]]}} for result in results]
    version = "2" if request.url.path.startswith("/v2") else "1"
    meta = {"api_version": {"version": version}, "billed_units": {"search_units": 1}}
    return json_of({"id": str(uuid.uuid4()), "model": model.id, "results": results, "meta": meta})


def _model(served: Served, name: str | None) -> Model:
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
