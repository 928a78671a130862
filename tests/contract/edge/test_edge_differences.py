"""Where Edge and qdrant-client's local mode truly differ: each difference is stated here, so a change is noticed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from qdrant_client import models as m

from diptych.errors import SearchError


@pytest.fixture(scope="module")
def kind_of_store() -> str:
    """Local mode only: a server is this engine."""
    return "memory"


def sparse_score(client: Any, name: str) -> float:
    query = m.SparseVector(indices=[1], values=[1.0])
    return float(client.query_points(name, query, using="s", limit=1).points[0].score)


def test_idf_counts_deleted_points_until_the_collection_is_loaded_again(empty: Any) -> None:
    empty.do(lambda c, n: c.create_collection(n, {}, sparse_vectors_config={"s": m.SparseVectorParams(modifier="idf")}))
    points = [
        m.PointStruct(id=i, vector={"s": m.SparseVector(indices=[i % 2], values=[1.0])}, payload={}) for i in range(20)
    ]
    empty.do(lambda c, n: c.upsert(n, points))
    empty.do(lambda c, n: c.delete(n, [0, 2, 4, 6, 8]))
    assert sparse_score(empty.other, empty.name) == pytest.approx(math.log((15 - 10 + 0.5) / 10.5 + 1))
    assert sparse_score(empty.edge, empty.name) == pytest.approx(math.log((20 - 10 + 0.5) / 10.5 + 1))
    empty.reopen()
    assert sparse_score(empty.edge, empty.name) == pytest.approx(sparse_score(empty.other, empty.name))


def test_facets_and_orders_take_a_payload_index_as_on_a_server(empty: Any) -> None:
    empty.do(lambda c, n: c.create_collection(n, {"d": m.VectorParams(size=2, distance="Dot")}))
    empty.do(lambda c, n: c.upsert(n, [m.PointStruct(id=1, vector={"d": [1.0, 2.0]}, payload={"k": "a", "i": 1})]))
    assert empty.other.facet(empty.name, "k").hits[0].count == 1
    with pytest.raises(SearchError, match=r"(?s)payload index is missing.*faceting: `k`.*create_payload_index"):
        empty.edge.facet(empty.name, "k")
    with pytest.raises(SearchError, match=r"(?s)payload index is missing.*order_by` key: `i`.*create_payload_index"):
        empty.edge.scroll(empty.name, order_by="i")


def test_the_last_digit_of_a_float_in_a_payload_may_change(empty: Any) -> None:
    value = 49.169647783502164
    empty.do(lambda c, n: c.create_collection(n, {"d": m.VectorParams(size=2, distance="Dot")}))
    empty.do(lambda c, n: c.upsert(n, [m.PointStruct(id=1, vector={"d": [1.0, 2.0]}, payload={"f": value})]))
    found = empty.edge.retrieve(empty.name, [1])[0].payload["f"]
    assert found != value
    assert found == pytest.approx(value, rel=1e-15)
    assert empty.other.retrieve(empty.name, [1])[0].payload["f"] == value
