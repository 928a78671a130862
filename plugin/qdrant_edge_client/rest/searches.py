"""Routes that search."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from qdrant_edge_client.rest.request import Request, Route


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
    ("POST", "/collections/{}/points/query"): _query,
    ("POST", "/collections/{}/points/query/batch"): _query_batch,
    ("POST", "/collections/{}/points/query/groups"): _groups,
    ("POST", "/collections/{}/points/search/matrix/pairs"): _pairs,
    ("POST", "/collections/{}/points/search/matrix/offsets"): _offsets,
}
