"""Every kind of filter selects the same points in EdgeClient as in qdrant-client's local mode (and on a server)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from qdrant_client import models as m

BERLIN = m.GeoPoint(lon=13.4, lat=52.5)
RING = m.GeoLineString(points=[m.GeoPoint(lon=x, lat=y) for x, y in ((-1, 47), (15, 47), (15, 54), (-1, 54), (-1, 47))])
HOLE = m.GeoLineString(
    points=[m.GeoPoint(lon=x, lat=y) for x, y in ((12, 51), (14.4, 51), (14.4, 53.6), (12, 53.6), (12, 51))]
)


def field(key: str, **condition: Any) -> m.FieldCondition:
    return m.FieldCondition(key=key, **condition)


def nested(**filters: Any) -> m.NestedCondition:
    return m.NestedCondition(nested=m.Nested(key="parts", filter=m.Filter(**filters)))


CONDITIONS: dict[str, Any] = {
    "match value text": field("kind", match=m.MatchValue(value="a")),
    "match value integer": field("rank", match=m.MatchValue(value=7)),
    "match value boolean": field("flag", match=m.MatchValue(value=True)),
    "match value in a list": field("tags", match=m.MatchValue(value="x")),
    "match value of an item": field("tags[]", match=m.MatchValue(value="x")),
    "match any text": field("kind", match=m.MatchAny(any=["a", "c"])),
    "match any integer": field("rank", match=m.MatchAny(any=[1, 2, 3])),
    "match except": field("kind", match=m.MatchExcept(**{"except": ["a", "c"]})),
    "match except in a list": field("tags", match=m.MatchExcept(**{"except": ["x"]})),
    "match text": field("body", match=m.MatchText(text="red fox")),
    "match text any": field("body", match=m.MatchTextAny(text_any="sings north")),
    "match uuid": field("key", match=m.MatchValue(value="00000000-0000-4000-8000-000000000003")),
    "match prefix": field("kind", match=m.MatchPrefix(prefix="a")),
    "match substring": field("kind", match=m.MatchSubstring(substring="b")),
    "range of integers": field("rank", range=m.Range(gte=5, lt=12)),
    "range of floats": field("price", range=m.Range(gt=2.5, lte=7.5)),
    "range of dates": field("when", range=m.DatetimeRange(gte=dt.datetime(2024, 3, 1), lt=dt.datetime(2024, 9, 1))),
    "range of zoned dates": field(
        "when", range=m.DatetimeRange(gt=dt.datetime(2024, 5, 5, 8, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    ),
    "geo box": field(
        "where",
        geo_bounding_box=m.GeoBoundingBox(top_left=m.GeoPoint(lon=0, lat=54), bottom_right=m.GeoPoint(lon=14, lat=48)),
    ),
    "geo radius": field("where", geo_radius=m.GeoRadius(center=BERLIN, radius=60_000)),
    "geo polygon": field("where", geo_polygon=m.GeoPolygon(exterior=RING, interiors=[HOLE])),
    "values count": field("tags", values_count=m.ValuesCount(gte=2)),
    "values count upper": field("tags", values_count=m.ValuesCount(lt=2, gt=0)),
    "is empty": m.IsEmptyCondition(is_empty=m.PayloadField(key="tags")),
    "is null": m.IsNullCondition(is_null=m.PayloadField(key="none")),
    "field is empty": field("tags", is_empty=True),
    "field is null": field("none", is_null=True),
    "has id": m.HasIdCondition(has_id=[1, 2, 4, 5, 7000]),
    "has vector": m.HasVectorCondition(has_vector="multi"),
    "slice": m.SliceCondition(slice=m.Slice(total=4, index=1)),
    "nested": nested(must=[field("size", range=m.Range(gte=3)), field("made", match=m.MatchValue(value="m"))]),
    "nested without": nested(must_not=[field("made", match=m.MatchValue(value="m"))]),
    "inside objects": field("parts[].size", match=m.MatchValue(value=2)),
    "geo inside": field("where.lat", range=m.Range(gt=50)),
    "a filter": m.Filter(should=[field("kind", match=m.MatchValue(value="a")), field("rank", range=m.Range(gt=18))]),
}

SINCE = {"match prefix": (1, 19), "slice": (1, 19), "match substring": (1, 20)}  # versions of servers


def known(pair: Any) -> list[str]:
    """The conditions that the other store knows."""
    if not pair.is_server:
        return list(CONDITIONS)
    from diptych.stores.versions import server_version

    version = server_version(pair.other)
    return [name for name in CONDITIONS if version is None or version >= SINCE.get(name, (0,))]


def ids_of(pair: Any, found: m.Filter) -> set[Any]:
    """Ids that both stores select with a filter, by scroll, count and query."""

    def select(client: Any, name: str) -> set[Any]:
        ids = {record.id for record in client.scroll(name, found, limit=1000, with_payload=False)[0]}
        assert client.count(name, found).count == len(ids)
        return ids

    mine, theirs = pair.ask(select)
    assert mine == theirs
    return mine  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_each_condition_selects_the_same_points(pair: Any, name: str) -> None:
    pair.require(SINCE.get(name, (0,)), f"conditions of the kind {name!r}")
    condition = CONDITIONS[name]
    total = pair.edge.count(pair.name).count
    chosen, rest = ids_of(pair, m.Filter(must=condition)), ids_of(pair, m.Filter(must_not=[condition]))
    assert 0 < len(chosen) < total
    assert len(chosen) + len(rest) == total
    assert ids_of(pair, m.Filter(should=[condition])) == chosen


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_each_condition_filters_a_search(pair: Any, world: Any, name: str) -> None:
    pair.require(SINCE.get(name, (0,)), f"conditions of the kind {name!r}")
    chosen = m.Filter(must=[CONDITIONS[name]])
    found = pair.same_ranking(query=world.dense(), using="cos", query_filter=chosen, limit=200)
    assert {point.id for point in found} <= ids_of(pair, chosen)


def test_random_filters_select_the_same_points(pair: Any, world: Any) -> None:
    names = known(pair)
    sizes = {len(ids_of(pair, random_filter(world, names))) for _ in range(40)}
    assert len(sizes) > 5


def random_filter(world: Any, names: list[str], depth: int = 2) -> m.Filter:
    rng = world.rng

    def some(most: int) -> list[Any] | None:
        chosen = [CONDITIONS[name] for name in rng.sample(names, rng.randint(0, most))]
        if depth and rng.random() < 0.3:
            chosen.append(random_filter(world, names, depth - 1))
        return chosen or None

    conditions = some(4)
    min_should = m.MinShould(conditions=conditions, min_count=2) if conditions and rng.random() < 0.3 else None
    return m.Filter(must=some(1), should=some(4), must_not=some(1), min_should=min_should)


def test_what_is_no_condition_is_refused(pair: Any) -> None:
    condition: Any = "kind = a"
    odd = m.Filter.model_construct(must=[condition], should=None, must_not=None, min_should=None)
    with pytest.raises(Exception, match="something that is not a condition"):
        pair.edge.count(pair.name, odd)
