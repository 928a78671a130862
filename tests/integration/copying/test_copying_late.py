"""Late writes: three versions of each point decide, that of the last pass, the source's now, and the target's now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from diptych.copying import copy_collection
from diptych.copying.run import Base, copy_late_writes
from diptych.copying.side import CopySide
from diptych.populate import Progress


class Writing(Progress):
    """Writes to a collection whenever a page has been copied or compared, as other programs would meanwhile."""

    def __init__(self, write: Callable[[str, int], None]) -> None:
        self.write, self.calls = write, 0

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing to show."""

    def advance(self, stage: str, n: int) -> None:
        if n:
            self.calls += 1
            self.write(stage, self.calls)


UUID = "00000000-0000-0000-0000-00000000000"


def side(points: dict[Any, tuple[int, float]]) -> CopySide:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    if points:
        client.upsert("c", [models.PointStruct(id=i, vector=[v], payload={"n": n}) for i, (n, v) in points.items()])
    return CopySide(client, "c")


def held(found: CopySide) -> dict[Any, tuple[int, float]]:
    records: list[Any] = [record for page, _ in found.whole_pages(10) for record in page]
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
        for page, _ in side(points(then)).whole_pages(10):
            base.add(page)
        there = side(points(target))
        assert copy_late_writes(side(points(source)), there, base, batch=10) == brought
    assert held(there) == points(after)


def put(found: CopySide, identifier: int, n: int) -> None:
    found.client.upsert("c", [models.PointStruct(id=identifier, vector=[1.0], payload={"n": n})])


def test_a_point_that_was_away_while_its_page_was_compared_is_copied_as_it_came_back() -> None:
    source, target = side({i: (i, 1.0) for i in range(30)}), CopySide(QdrantClient(":memory:"), "c")

    def write(stage: str, call: int) -> None:
        if stage == "copying" and call == 3:
            source.delete([5])
        elif stage == "comparing, pass 1" and call == 4:
            put(source, 5, 1000)

    with Base() as base:
        copy_collection(source.client, "c", target.client, batch=10, progress=Writing(write), base=base)
        assert copy_late_writes(source, target, base, batch=10) == 0
    assert held(target) == held(source)
    assert held(target)[5] == (1000, 1.0)
