"""Boosts: the formula in Python gives the scores of each store; missing and odd values count as none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.config.models import SearchConfig
from diptych.errors import ConfigError, SearchError
from diptych.search import (
    Boost,
    Dbsf,
    Diversify,
    FieldBoost,
    GeoBoost,
    Linear,
    NumberBoost,
    Pipeline,
    RangeBoost,
    RecencyBoost,
    Rescore,
    Retrieve,
    Rrf,
)
from diptych.search.pipeline import index_types
from diptych.testing import fakes_plugin
from diptych.types import Document

from .conftest import Open

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOTS = {
    "dense": {"adapter": "fake-dense", "dimension": 16},
    "far": {"adapter": "fake-dense", "dimension": 16, "similarity": "euclidean"},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    "late": {"adapter": "fake-multivector"},
}
ODD: list[Any] = [None, "text", True, [], {"x": 1}, ["a", "b"], [1, 2], 5, "2026-13-45", {"lat": 95, "lon": 500}]


def documents() -> list[Document]:
    """Forty documents with a number, a time, a place and a section each; ten with odd values; ten with none."""
    random = np.random.default_rng(3)
    found = []
    for n in range(60):
        metadata: dict[str, Any] = {}
        if n < 40:
            metadata = {
                "section": ["mail", "web", "games"][n % 3],
                "tags": [f"t{n % 2}", f"u{n % 5}"],
                "stars": {"count": float(random.integers(-20, 120)) / 2},
                "published": (NOW - timedelta(days=float(random.integers(-20, 200)))).isoformat(),
                "place": {"lat": 52.5 + float(random.normal()) / 10, "lon": 13.4 + float(random.normal()) / 10},
            }
        elif n < 50:
            odd = ODD[n - 40]
            metadata = {"section": odd, "stars": {"count": odd}, "published": odd, "place": odd}
        words = " ".join(f"word{random.integers(0, 30)}" for _ in range(5 + n))
        found.append(Document(f"d{n}", words, metadata=metadata))
    return found


@pytest.fixture(scope="module")
def collection(opened: Open, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    found = opened({"slots": SLOTS, "search": {"retrieve": {"dense": 60, "lexical": 60}}})
    found.populate(documents(), report_path=tmp_path_factory.mktemp("reports") / "aside.jsonl")
    return found


Value = Callable[[Mapping[str, Any]], float]


def number(metadata: Mapping[str, Any]) -> float | None:
    value = (metadata.get("stars") or {}).get("count")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def age(metadata: Mapping[str, Any]) -> float | None:
    try:
        return max(0.0, (NOW - datetime.fromisoformat(metadata.get("published"))).total_seconds())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def metres(metadata: Mapping[str, Any]) -> float | None:
    place = metadata.get("place")
    if not isinstance(place, Mapping) or abs(place.get("lat", 99)) > 90:
        return None
    (a, x), (b, y) = ((math.radians(p["lat"]), math.radians(p["lon"])) for p in (place, {"lat": 52.5, "lon": 13.4}))
    half = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin((x - y) / 2) ** 2
    return 2 * 6371008.8 * math.asin(math.sqrt(half))


def decayed(read: Callable[[Mapping[str, Any]], float | None], scale: float, midpoint: float, curve: str) -> Value:
    def value(metadata: Mapping[str, Any]) -> float:
        if (distance := read(metadata)) is None:
            return 0.0
        if curve == "exp":
            return float(midpoint ** (distance / scale))
        if curve == "gauss":
            return float(midpoint ** ((distance / scale) ** 2))
        return max(0.0, 1 - (1 - midpoint) * distance / scale)

    return value


def apart(metadata: Mapping[str, Any]) -> float | None:
    value = number(metadata)
    return None if value is None else abs(value - 20)


def ranged(metadata: Mapping[str, Any]) -> float:
    value = number(metadata)
    return 0.0 if value is None else min(1.0, max(0.0, (value - 10) / 30))


def in_mail(metadata: Mapping[str, Any]) -> float:
    return float(metadata.get("section") == "mail")


def tagged(metadata: Mapping[str, Any]) -> float:
    return float(bool({"t1", "u2"} & set(metadata.get("tags", []))))


MONTH = 30 * 86400.0
PARTS: list[tuple[Any, Value]] = [
    (FieldBoost("section", "mail"), in_mail),
    (FieldBoost("tags", ["t1", "u2"], weight=-0.4), tagged),
    (RangeBoost("stars.count", 10, 40, weight=2.0), ranged),
    (RangeBoost("stars.count", 40, 10, relative=False), lambda m: 0.0 if number(m) is None else 1 - ranged(m)),
    *(
        (NumberBoost("stars.count", 20, 12, 0.3, curve, relative=False), decayed(apart, 12, 0.3, curve))
        for curve in ("exp", "gauss", "linear")
    ),
    *(
        (RecencyBoost("published", "30d", 0.6, curve, NOW), decayed(age, MONTH, 0.6, curve))
        for curve in ("exp", "gauss", "linear")
    ),
    (GeoBoost("place", 52.5, 13.4, 5000, 0.5, weight=1.5), decayed(metres, 5000, 0.5, "exp")),
]
BOTH = Retrieve("dense", 60) + Retrieve("lexical", 60)
PIPELINES = [
    Retrieve("dense", 60) >> Boost(*[part for part, _ in PARTS]),
    Retrieve("far", 60) >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Dbsf() >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Rrf(weights={"dense": 2}) >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Linear("zscore", missing=-2.5) >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Linear() >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Rrf() >> Rescore("late", 50) >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Linear() >> Rescore("late", 50) >> Boost(*[part for part, _ in PARTS]),
    BOTH >> Rrf() >> Rescore("late", 50, weight=0.3) >> Boost(*[part for part, _ in PARTS]),
]
QUERY = "word1 word7 word9 other"


def unboosted(collection: Collection, pipeline: Pipeline) -> dict[str, float]:
    plain = Pipeline(pipeline.retrieve, pipeline.fuse, pipeline.rescore)
    limit = plain.depth or 60
    return {hit.id: hit.score for hit in collection.search(QUERY, pipeline=plain, limit=limit)}


@pytest.mark.parametrize(("part", "value"), PARTS, ids=lambda own: repr(own)[:60] if not callable(own) else "")
def test_each_part_is_its_formula(collection: Collection, part: Any, value: Value) -> None:
    pipeline = Retrieve("dense", 60) >> Boost(part)
    before, metadata = unboosted(collection, pipeline), {d.id: d.metadata for d in documents()}
    hits = collection.search(QUERY, pipeline=pipeline, limit=60)
    assert len(hits) == 60, "none is lost"
    for hit in hits:
        factor = abs(before[hit.id]) if part.relative else 1.0
        expected = before[hit.id] + factor * part.weight * value(metadata[hit.id])
        assert hit.score == pytest.approx(expected, abs=2e-5), (hit.id, metadata[hit.id])
    assert any(value(metadata[hit.id]) not in (0.0, 1.0) or part.kind == "field" for hit in hits)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda own: repr(own).partition(" >> Boost")[0])
def test_boosts_add_up_over_the_scores_of_any_pipeline(collection: Collection, pipeline: Pipeline) -> None:
    before, metadata = unboosted(collection, pipeline), {d.id: d.metadata for d in documents()}
    expected = {
        name: score + sum((abs(score) if p.relative else 1.0) * p.weight * v(metadata[name]) for p, v in PARTS)
        for name, score in before.items()
    }
    hits = collection.search(QUERY, pipeline=pipeline, limit=len(before))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.stages["boost"] == hit.score for hit in hits)
    (best,) = collection.explain(QUERY, pipeline=pipeline, limit=1)
    assert before[best.document.id] + sum(best.boosts.values()) == pytest.approx(best.score, abs=1e-4)
    assert len(best.boosts) == len(PARTS)


def test_a_boosted_search_is_one_request(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    collection.search(QUERY, boost=[PARTS[0][0]])  # reads the schema of the payload once
    calls: list[int] = []
    ask = collection.client.query_batch_points

    def counted(name: str, requests: list[Any], **options: Any) -> Any:
        calls.append(len(requests))
        return ask(name, requests, **options)

    monkeypatch.setattr(collection.client, "query_batch_points", counted)
    monkeypatch.setattr(collection.client, "retrieve", None)
    collection.search(QUERY, boost=[part for part, _ in PARTS])
    assert calls == [1]


def test_recency_counts_from_the_search_unless_it_has_a_target(collection: Collection) -> None:
    (new,) = collection.search(
        QUERY, pipeline=Retrieve("dense", 60) >> Boost(RecencyBoost("published", "1000000w")), limit=1
    )
    assert new.score == pytest.approx(1.5 * unboosted(collection, Pipeline((Retrieve("dense", 60),)))[new.id], rel=1e-3)


def test_the_config_boosts_and_an_empty_list_does_not() -> None:
    boost = [{"kind": "field", "field": "section", "equals": ["mail", "web"], "weight": 3}]
    search = {"retrieve": {"dense": 9}, "boost": boost}
    config = parse_config({"store": "memory:", "collection": "c", "slots": {"dense": SLOTS["dense"]}, "search": search})
    assert SearchConfig.model_validate(config.search.model_dump(mode="json")) == config.search
    with Collection.open(config, registry=Registry(fakes_plugin, installed=False)) as opened:
        opened.populate(documents()[:9])
        sections = [hit.document.metadata["section"] for hit in opened.search(QUERY)]
        assert len(sections) == 9
        assert "games" not in sections[:6]
        assert "boost" not in opened.search(QUERY, boost=[])[0].stages
        assert "boost" not in opened.search(QUERY, pipeline="dense")[0].stages
        assert [hit.id for hit in opened.search(QUERY, pipeline="dense > boost")] == [
            hit.id for hit in opened.search(QUERY)
        ]
        assert "field section" in str(opened.explain(QUERY, limit=1)[0])


def test_a_field_that_is_indexed_as_something_else_is_refused(collection: Collection, tmp_path: Path) -> None:
    collection.client.create_payload_index(collection.name, "kind", models.PayloadSchemaType.KEYWORD)
    collection.handle.view.memo.pop(index_types, None)
    types = collection.client.get_collection(collection.name).payload_schema
    if types:  # local mode keeps no indexes
        with pytest.raises(
            SearchError, match=r"(?s)recency boost cannot read this field.*'kind'.*type keyword.*datetime"
        ):
            collection.search(QUERY, boost=[RecencyBoost("kind", "30d")])
    raw = {"collection": "c", "slots": {"dense": SLOTS["dense"]}, "populate": {"indexes": {"kind": "keyword"}}}
    search = {"boost": [{"kind": "recency", "field": "kind", "scale": "30d"}]}
    with pytest.raises(
        ConfigError, match=r"(?s)recency boost cannot read a field that is indexed as keyword.*datetime"
    ):
        parse_config({**raw, "search": search})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NumberBoost("n", 1, -3), r"NumberBoost\.scale\n.*-3\n.*at least 1e-15"),
        (lambda: RecencyBoost("n", "-30d"), r"RecencyBoost\.scale\n.*-30d"),
        (lambda: RecencyBoost("n", "30d", target="now"), r"RecencyBoost\.target\n.*now"),  # type: ignore[arg-type]
        (lambda: NumberBoost("n", float("nan"), 3), r"NumberBoost\.target\n.*nan"),
        (lambda: NumberBoost("n", 1, 3, midpoint=1.0), r"NumberBoost\.midpoint\n.*1.0"),
        (lambda: NumberBoost("n", 1, 3, curve="steep"), r"NumberBoost\.curve\n.*steep.*\n.*'exp', 'gauss' or 'linear'"),  # type: ignore[arg-type]
        (lambda: RangeBoost("n", 3, 3), r"no width\n.*RangeBoost\n.*low 3.0, high 3.0\n.*`low` and `high` that differ"),
        (lambda: GeoBoost("n", 91, 0, 5), r"GeoBoost\.lat\n.*91\n.*at most 90"),
        (lambda: FieldBoost("", "x"), r"FieldBoost\.field\n.*\n.*at least 1 character"),
        (lambda: FieldBoost("n", []), r"FieldBoost\.equals"),
        (lambda: FieldBoost("n", "x", weight="much"), r"FieldBoost\.weight\n.*much"),  # type: ignore[arg-type]
        (lambda: Boost(), "unusable number of boosts"),
        (lambda: Boost("x"), "not a part of a boost"),  # type: ignore[arg-type]
        (lambda: Boost.of("x"), "not a boost\n"),  # type: ignore[arg-type]
        (lambda: Boost.of([{"kind": "recency", "field": "n", "scale": -1}]), r"(?s)where: boost.scale.*at least 1e-06"),
        (
            lambda: Boost.of([{"kind": "recency", "field": "n", "scales": 1, "scale": 1}]),
            r"(?s)boost.scales.*no such key",
        ),
        (lambda: Boost.of([{"kind": "vanity", "field": "n"}]), r"(?s)not a boost.*'field', 'recency'"),
        (lambda: Retrieve("dense") >> Boost(FieldBoost("n", 1)) >> Diversify("dense"), "a boost would have no effect"),
        (lambda: Retrieve("dense") >> Boost(FieldBoost("n", 1)) >> Rescore("dense"), "comes too late"),
    ],
)
def test_what_cannot_boost_is_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(SearchError, match=text):
        make()
