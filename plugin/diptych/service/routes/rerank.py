"""`/rerank`, `/v1/rerank` and `/v2/rerank` in the format of Cohere and Jina."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from diptych.errors import AdapterOptionsError
from diptych.service.bodies import RerankRequest
from diptych.service.model import Model
from diptych.service.requests import read, require_room
from diptych.service.route_context import Serving, json_of
from diptych.service.served import Served


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
