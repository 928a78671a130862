"""Distances between sampled points, computed by searches, since Edge has no call for them."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from qdrant_edge_client.client.search import SearchPoints
from qdrant_edge_client.client.unsupported import check_arguments
from qdrant_edge_client.errors import SearchError


class Matrix(SearchPoints):
    """The part of EdgeClient that compares points with each other."""

    def search_matrix_pairs(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixPairsResponse:
        """For each of `sample` random points its `limit` nearest among them, as pairs."""
        check_arguments("search_matrix_pairs", kwargs)
        neighbours = self._nearest_of_sample(collection_name, query_filter, limit, sample, using)
        pairs = [
            models.SearchMatrixPair(a=identifier, b=point.id, score=point.score)
            for identifier, points in neighbours.items()
            for point in points
        ]
        return models.SearchMatrixPairsResponse(pairs=pairs)

    def search_matrix_offsets(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int = 3,
        sample: int = 10,
        using: str | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixOffsetsResponse:
        """The same as a sparse matrix: rows, columns and scores, with the ids of rows and columns."""
        check_arguments("search_matrix_offsets", kwargs)
        neighbours = self._nearest_of_sample(collection_name, query_filter, limit, sample, using)
        offsets = {identifier: offset for offset, identifier in enumerate(neighbours)}
        cells = [(row, point) for row, points in enumerate(neighbours.values()) for point in points]
        return models.SearchMatrixOffsetsResponse(
            offsets_row=[row for row, _ in cells],
            offsets_col=[offsets[point.id] for _, point in cells],
            scores=[point.score for _, point in cells],
            ids=list(neighbours),
        )

    def _nearest_of_sample(
        self, collection_name: str, query_filter: models.Filter | None, limit: int, sample: int, using: str | None
    ) -> dict[models.ExtendedPointId, list[models.ScoredPoint]]:
        if limit < 1 or sample < 2:
            raise SearchError("limit or sample is too small", got=f"{limit}, {sample}", expected="limit 1, sample 2")
        with_vector = _and(query_filter, models.HasVectorCondition(has_vector=using or ""))
        query = models.SampleQuery(sample=models.Sample.RANDOM)
        response = self.query_points(collection_name, query, query_filter=with_vector, limit=sample, with_payload=False)
        ids = sorted((point.id for point in response.points), key=lambda i: (isinstance(i, str), i))
        if len(ids) < 2:
            return {}
        sample_filter = _and(query_filter, models.HasIdCondition(has_id=ids))
        requests = [_request(identifier, sample_filter, limit, using) for identifier in ids]
        answers = self._query_all(collection_name, requests)
        return {identifier: answer.points for identifier, answer in zip(ids, answers, strict=True)}


def _and(query_filter: models.Filter | None, condition: Any) -> models.Filter:
    return models.Filter(must=[condition] if query_filter is None else [query_filter, condition])


def _request(identifier: Any, sample_filter: models.Filter, limit: int, using: str | None) -> models.QueryRequest:
    return models.QueryRequest(query=identifier, using=using, filter=sample_filter, limit=limit, with_payload=False)
