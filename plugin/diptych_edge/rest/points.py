"""Routes that read, write and search points.

Points come by the thousand, so written vectors are not validated number by number here: the client checks ids, names,
dimensions and numbers against the collection anyway.
"""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from diptych.runtime.unchecked import unchecked
from diptych_edge.rest.request import Request, Route, validator

_Selector = models.PointsSelector
_record_of = unchecked(models.SparseVector)


def _retrieve(request: Request) -> Any:
    body: models.PointRequest = request.read(models.PointRequest)
    payload = True if body.with_payload is None else body.with_payload
    return request.client.retrieve(request.name, body.ids, payload, body.with_vector or False, **_routing(body))


def _one(request: Request) -> Any:
    text = request.names[1]
    records = request.client.retrieve(request.name, [int(text) if text.isdigit() else text], with_vectors=True)
    if not records:
        raise LookupError(f"there is no point {text}")
    return records[0]


def _scroll(request: Request) -> Any:
    body: models.ScrollRequest = request.read(models.ScrollRequest)
    records, next_offset = request.client.scroll(
        request.name,
        scroll_filter=body.filter,
        limit=10 if body.limit is None else body.limit,
        order_by=body.order_by,
        offset=body.offset,
        with_payload=True if body.with_payload is None else body.with_payload,
        with_vectors=body.with_vector or False,
        **_routing(body),
    )
    return {"points": records, "next_page_offset": next_offset}


def _count(request: Request) -> Any:
    body: models.CountRequest = request.read(models.CountRequest)
    exact = True if body.exact is None else body.exact
    return request.client.count(request.name, body.filter, exact, **_routing(body))


def _facet(request: Request) -> Any:
    body: models.FacetRequest = request.read(models.FacetRequest)
    return request.client.facet(
        request.name,
        body.key,
        body.filter,
        10 if body.limit is None else body.limit,
        bool(body.exact),
        **_routing(body),
    )


def _upsert(request: Request) -> Any:
    body = _object(request.body)
    if "batch" in body:
        batch: models.PointsBatch = request.read(models.PointsBatch)
        return request.client.upsert(request.name, batch.batch, **_options(batch))
    fields: Any = _without(request, models.PointsList, "points")
    points: Any = [_point(point) for point in _list(body.get("points"))]
    return request.client.upsert(request.name, points, **_options(fields))


def _update_vectors(request: Request) -> Any:
    fields: Any = _without(request, models.UpdateVectors, "points")
    points: Any = [_point_vectors(point) for point in _list(_object(request.body).get("points"))]
    return request.client.update_vectors(request.name, points, **_options(fields))


def _delete(request: Request) -> Any:
    return request.client.delete(request.name, request.read(_Selector))


def _clear_payload(request: Request) -> Any:
    return request.client.clear_payload(request.name, request.read(_Selector))


def _set_payload(request: Request) -> Any:
    body: models.SetPayload = request.read(models.SetPayload)
    return request.client.set_payload(request.name, body.payload, _selected(body), body.key, **_routing(body))


def _overwrite_payload(request: Request) -> Any:
    body: models.SetPayload = request.read(models.SetPayload)
    key = {} if body.key is None else {"key": body.key}
    return request.client.overwrite_payload(request.name, body.payload, _selected(body), **key, **_routing(body))


def _delete_payload(request: Request) -> Any:
    body: models.DeletePayload = request.read(models.DeletePayload)
    return request.client.delete_payload(request.name, body.keys, _selected(body), **_routing(body))


def _delete_vectors(request: Request) -> Any:
    body: models.DeleteVectors = request.read(models.DeleteVectors)
    return request.client.delete_vectors(request.name, body.vector, _selected(body), **_routing(body))


def _batch(request: Request) -> Any:
    return request.client.batch_update_points(request.name, request.read(models.UpdateOperations).operations)


def _selected(body: Any) -> Any:
    """The points that an update selects."""
    if body.points is None and body.filter is None:
        raise ValueError("an update selects no points: give `points` or `filter`")
    return body.points if body.points is not None else body.filter


def _routing(body: Any) -> dict[str, Any]:
    """The shard key, if any; a client without shards refuses it."""
    return {} if body.shard_key is None else {"shard_key_selector": body.shard_key}


def _options(body: Any) -> dict[str, Any]:
    options = {name: getattr(body, name, None) for name in ("update_filter", "update_mode")}
    return {**_routing(body), **{name: value for name, value in options.items() if value is not None}}


def _without(request: Request, kind: Any, field: str) -> Any:
    """The body as a model, with its long field empty."""
    return Request(request.client, request.names, {**_object(request.body), field: []}).read(kind)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    return body


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("`points` is not a list")
    return value


def _point(raw: Any) -> models.PointStruct:
    """A point. Vectors that are lists of numbers are passed on as they came."""
    if isinstance(raw, dict) and raw.keys() <= {"id", "vector", "payload"} and {"id", "vector"} <= raw.keys():
        vector = _vectors(raw["vector"])
        if vector is not None and isinstance(raw["id"], int | str) and isinstance(raw.get("payload"), dict | None):
            return models.PointStruct.model_construct(id=raw["id"], vector=vector, payload=raw.get("payload"))
    made: models.PointStruct = validator(models.PointStruct).validate_python(raw)
    return made


def _point_vectors(raw: Any) -> models.PointVectors:
    if isinstance(raw, dict) and raw.keys() == {"id", "vector"} and isinstance(raw["id"], int | str):
        vector = _vectors(raw["vector"])
        if vector is not None:
            return models.PointVectors.model_construct(id=raw["id"], vector=vector)
    made: models.PointVectors = validator(models.PointVectors).validate_python(raw)
    return made


def _vectors(raw: Any) -> Any:
    """The vectors of a point; None if the model must interpret them."""
    if isinstance(raw, list):
        return raw if _is_numeric(raw) else None
    if not isinstance(raw, dict):
        return None
    vectors = {name: _vector(vector) for name, vector in raw.items()}
    return None if any(vector is None for vector in vectors.values()) else vectors


def _vector(raw: Any) -> Any:
    if isinstance(raw, dict):
        return _record_of(raw) if raw.keys() == {"indices", "values"} and _is_sparse(raw) else None
    return raw if isinstance(raw, list) and _is_numeric(raw) else None


def _is_sparse(raw: dict[str, Any]) -> bool:
    return isinstance(raw["indices"], list) and isinstance(raw["values"], list) and _is_numeric(raw["values"])


def _is_numeric(raw: list[Any]) -> bool:
    """Whether it begins like numbers or rows of numbers; the engine checks each of them."""
    first = raw[0] if raw else 0.0
    return isinstance(first[0] if isinstance(first, list) and first else first, int | float)


def _query(request: Request) -> Any:
    return request.client.query_batch_points(request.name, [request.read(models.QueryRequest)])[0]


def _query_batch(request: Request) -> Any:
    return request.client.query_batch_points(request.name, request.read(models.QueryRequestBatch).searches)


def _groups(request: Request) -> Any:
    body: models.QueryGroupsRequest = request.read(models.QueryGroupsRequest)
    return request.client.query_points_groups(
        request.name,
        body.group_by,
        query=body.query,
        using=body.using,
        prefetch=body.prefetch,
        query_filter=body.filter,
        search_params=body.params,
        limit=10 if body.limit is None else body.limit,
        group_size=3 if body.group_size is None else body.group_size,
        with_payload=body.with_payload or False,
        with_vectors=body.with_vector or False,
        score_threshold=body.score_threshold,
        with_lookup=body.with_lookup,
        lookup_from=body.lookup_from,
        **({} if body.shard_key is None else {"shard_key_selector": body.shard_key}),
    )


def _matrix(request: Request) -> dict[str, Any]:
    body: models.SearchMatrixRequest = request.read(models.SearchMatrixRequest)
    arguments: dict[str, Any] = {
        "query_filter": body.filter,
        "sample": body.sample,
        "limit": body.limit,
        "using": body.using,
        "shard_key_selector": body.shard_key,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _pairs(request: Request) -> Any:
    return request.client.search_matrix_pairs(request.name, **_matrix(request))


def _offsets(request: Request) -> Any:
    return request.client.search_matrix_offsets(request.name, **_matrix(request))


ROUTES: dict[tuple[str, str], Route] = {
    ("POST", "/collections/{}/points"): _retrieve,
    ("PUT", "/collections/{}/points"): _upsert,
    ("GET", "/collections/{}/points/{}"): _one,
    ("POST", "/collections/{}/points/scroll"): _scroll,
    ("POST", "/collections/{}/points/count"): _count,
    ("POST", "/collections/{}/facet"): _facet,
    ("POST", "/collections/{}/points/delete"): _delete,
    ("POST", "/collections/{}/points/batch"): _batch,
    ("PUT", "/collections/{}/points/vectors"): _update_vectors,
    ("POST", "/collections/{}/points/vectors/delete"): _delete_vectors,
    ("POST", "/collections/{}/points/payload"): _set_payload,
    ("PUT", "/collections/{}/points/payload"): _overwrite_payload,
    ("POST", "/collections/{}/points/payload/delete"): _delete_payload,
    ("POST", "/collections/{}/points/payload/clear"): _clear_payload,
    ("POST", "/collections/{}/points/query"): _query,
    ("POST", "/collections/{}/points/query/batch"): _query_batch,
    ("POST", "/collections/{}/points/query/groups"): _groups,
    ("POST", "/collections/{}/points/search/matrix/pairs"): _pairs,
    ("POST", "/collections/{}/points/search/matrix/offsets"): _offsets,
}
