"""Scrolls, counts, facets, groups and matrices agree with qdrant-client's local mode (and with a server)."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models as m

KIND_A = m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchValue(value="a"))])


def test_pages_of_a_scroll_cover_the_collection_once(pair: Any) -> None:
    seen: list[Any] = []
    offset = None
    while True:
        records, offset = pair.edge.scroll(pair.name, limit=40, offset=offset)
        seen += [record.id for record in records]
        if offset is None:
            break
    assert len(seen) == len(set(seen)) == pair.edge.count(pair.name).count


def test_scrolls_agree(pair: Any) -> None:
    pair.same(lambda c, n: c.scroll(n, KIND_A, limit=1000, with_vectors=True))
    page, after = pair.same(lambda c, n: c.scroll(n, limit=7))
    assert len(page) == 7
    assert pair.same(lambda c, n: c.scroll(n, limit=7, offset=after))[0][0].id == after


@pytest.mark.parametrize("key", ["rank", "price", "when"])
@pytest.mark.parametrize("direction", list(m.Direction))
def test_scrolls_in_the_order_of_a_field_agree(pair: Any, key: str, direction: m.Direction) -> None:
    order = m.OrderBy(key=key, direction=direction)
    mine, theirs = pair.ask(lambda c, n: c.scroll(n, limit=1000, order_by=order)[0])
    assert [record.order_value for record in mine] == [record.order_value for record in theirs]
    assert {record.id for record in mine} == {record.id for record in theirs}


def test_retrieval_keeps_the_order_asked_and_passes_over_the_missing(pair: Any, world: Any) -> None:
    ids = [*world.some_ids(6), 99999]
    found = pair.same(lambda c, n: c.retrieve(n, ids, with_vectors=True))
    assert [record.id for record in found] == ids[:-1]
    pair.same(lambda c, n: c.retrieve(n, ids, with_payload=["kind"], with_vectors=["cos"]))
    pair.same(lambda c, n: c.retrieve(n, ids, with_payload=False))


def test_counts_agree(pair: Any) -> None:
    for exact in (True, False):
        assert pair.same(lambda c, n, e=exact: c.count(n, KIND_A, exact=e)).count


@pytest.mark.parametrize("key", ["kind", "rank", "flag", "key", "tags[]"])
def test_facets_agree(pair: Any, key: str) -> None:
    assert pair.same(lambda c, n: c.facet(n, key, limit=50, exact=True)).hits
    pair.same(lambda c, n: c.facet(n, key, facet_filter=KIND_A, limit=50, exact=True))


@pytest.mark.parametrize("group_by", ["kind", "rank", "tags", "parts[].size"])
@pytest.mark.parametrize(("limit", "size"), [(3, 2), (10, 1), (50, 4)])
def test_groups_agree(pair: Any, world: Any, group_by: str, limit: int, size: int) -> None:
    query = world.dense()
    mine, theirs = pair.ask(
        lambda c, n: c.query_points_groups(n, group_by, query=query, using="cos", limit=limit, group_size=size).groups
    )
    assert [group.hits[0].score for group in mine] == pytest.approx([group.hits[0].score for group in theirs], rel=1e-5)
    if not pair.is_server:  # which puts groups of the same best hit in any order, and cuts them anywhere
        assert [group.id for group in mine] == [group.id for group in theirs]
    found = {group.id: group.hits for group in theirs}
    last = mine[-1].hits[0].score
    assert all(group.id in found or group.hits[0].score == pytest.approx(last, rel=1e-5) for group in mine)
    for group in mine:
        if group.id in found:
            pair.check(group.hits, found[group.id])


def test_groups_with_a_filter_a_threshold_and_a_selection_agree(pair: Any, world: Any) -> None:
    query = world.dense()
    mine, theirs = pair.ask(
        lambda c, n: c.query_points_groups(
            n, "rank", query=query, using="dot", query_filter=KIND_A, score_threshold=0.0, limit=5,
            with_payload=["kind", "rank"], with_vectors=["sparse"],
        ).groups
    )  # fmt: skip
    assert [group.id for group in mine] == [group.id for group in theirs]
    for group, other in zip(mine, theirs, strict=True):
        pair.equal([h.vector for h in group.hits], [h.vector for h in other.hits])


def test_rare_and_uneven_groups_agree_among_many_points(empty: Any, world: Any) -> None:
    empty.do(lambda c, n: c.create_collection(n, {"d": m.VectorParams(size=8, distance="Cosine")}))
    points = [
        m.PointStruct(id=i, vector={"d": world.dense()}, payload={"g": "most" if i % 100 else f"rare {i % 700}"})
        for i in range(1, 5000)
    ]
    empty.do(lambda c, n: c.upsert(n, points))
    for limit in (3, 20):
        query = world.dense()
        mine, theirs = empty.ask(
            lambda c, n, q=query, k=limit: (
                c.query_points_groups(n, "g", query=q, using="d", limit=k, group_size=9).groups
            )
        )
        assert len(mine) == min(limit, 8)
        assert [group.id for group in mine] == [group.id for group in theirs]
        for group, other in zip(mine, theirs, strict=True):
            empty.check(group.hits, other.hits)


def test_groups_look_their_records_up(pair: Any, world: Any) -> None:
    query = world.dense()
    mine, theirs = pair.ask(
        lambda c, n: c.query_points_groups(n, "rank", query=query, using="cos", limit=5, with_lookup=n).groups
    )
    assert [g.lookup and g.lookup.id for g in mine] == [g.lookup and g.lookup.id for g in theirs]
    assert any(group.lookup for group in mine)


def test_a_matrix_of_all_points_agrees(pair: Any) -> None:
    few = m.Filter(must=[m.HasIdCondition(has_id=list(range(1, 40)))])
    mine, theirs = pair.ask(
        lambda c, n: c.search_matrix_pairs(n, query_filter=few, limit=3, sample=100, using="dot").pairs
    )
    assert [(p.a, p.b) for p in mine] == [(p.a, p.b) for p in theirs]
    assert [p.score for p in mine] == pytest.approx([p.score for p in theirs], rel=1e-5)
    cells, others = pair.ask(
        lambda c, n: c.search_matrix_offsets(n, query_filter=few, limit=3, sample=100, using="dot")
    )
    assert (cells.offsets_row, cells.offsets_col, cells.ids) == (others.offsets_row, others.offsets_col, others.ids)
