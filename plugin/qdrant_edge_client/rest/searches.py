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
    asked: models.QueryGroupsRequest = request.read(models.QueryGroupsRequest)
    return request.client.query_points_groups(
        request.name,
        asked.group_by,
        query=asked.query,
        using=asked.using,
        prefetch=asked.prefetch,
        query_filter=asked.filter,
        search_params=asked.params,
        limit=10 if asked.limit is None else asked.limit,
        group_size=3 if asked.group_size is None else asked.group_size,
        with_payload=asked.with_payload or False,
        with_vectors=asked.with_vector or False,
        score_threshold=asked.score_threshold,
        with_lookup=asked.with_lookup,
        lookup_from=asked.lookup_from,
        **({} if asked.shard_key is None else {"shard_key_selector": asked.shard_key}),
    )


def _matrix(request: Request) -> dict[str, Any]:
    asked: models.SearchMatrixRequest = request.read(models.SearchMatrixRequest)
    given: dict[str, Any] = {
        "query_filter": asked.filter,
        "sample": asked.sample,
        "limit": asked.limit,
        "using": asked.using,
        "shard_key_selector": asked.shard_key,
    }
    return {name: value for name, value in given.items() if value is not None}


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
