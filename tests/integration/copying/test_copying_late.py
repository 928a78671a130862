"""Late writes: three versions of each point decide, that of the last pass, the source's now, and the target's now."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from diptych.copying.base import Base
from diptych.copying.late_writes import copy_late_writes
from diptych.copying.side import Side

UUID = "00000000-0000-0000-0000-00000000000"


def side(points: dict[Any, tuple[int, float]]) -> Side:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    if points:
        client.upsert("c", [models.PointStruct(id=i, vector=[v], payload={"n": n}) for i, (n, v) in points.items()])
    return Side(client, "c")


def held(found: Side) -> dict[Any, tuple[int, float]]:
    records: list[Any] = [record for page, _ in found.pages(10) for record in page]
    return {record.id: (record.payload["n"], record.vector[0]) for record in records}


@pytest.mark.parametrize(
    ("then", "source", "target", "after", "brought"),
    [
        ((1, 0.0), (1, 0.0), (1, 0.0), (1, 0.0), 0),  # nothing happened
        ((1, 0.0), (2, 0.0), (1, 0.0), (2, 0.0), 1),  # late change of the payload
        ((1, 0.0), (1, 5.0), (1, 0.0), (1, 5.0), 1),  # late change of the vector
        ((1, 0.0), (2, 0.0), (3, 0.0), (3, 0.0), 0),  # changed late, and again in the target
        ((1, 0.0), (1, 0.0), (3, 0.0), (3, 0.0), 0),  # changed in the target only
        ((1, 0.0), None, (1, 0.0), None, 1),  # deleted late
        ((1, 0.0), None, (3, 0.0), (3, 0.0), 0),  # deleted late, but written again in the target
        ((1, 0.0), (2, 0.0), None, None, 0),  # changed late, and deleted in the target
        ((1, 0.0), None, None, None, 0),  # deleted in both
        (None, (2, 0.0), None, (2, 0.0), 1),  # added late
        (None, (2, 0.0), (3, 0.0), (3, 0.0), 0),  # added late, and in the target
        (None, None, (3, 0.0), (3, 0.0), 0),  # added in the target only
    ],
)
@pytest.mark.parametrize("identifier", [7, f"{UUID}7"])
def test_a_late_write_is_brought_over_where_the_target_has_not_gone_on(
    identifier: Any, then: Any, source: Any, target: Any, after: Any, brought: int
) -> None:
    others = {i: (i, 1.0) for i in range(100, 125)}

    def points(own: Any) -> dict[Any, tuple[int, float]]:
        return {**others, **({identifier: own} if own else {})}

    with Base() as base:
        for page, _ in side(points(then)).pages(10):
            base.add(page)
        there = side(points(target))
        assert copy_late_writes(side(points(source)), there, base, batch=10) == brought
    assert held(there) == points(after)
