"""What a config may say, a search can do: configs are drawn from the schema, opened, and searched with.

DIPTYCH_DRAWN_CONFIGS says how many are tried in each store.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.collection.collection import Collection
from diptych.config.models import SearchConfig
from diptych.errors import ConfigError, FollowWarning
from diptych.handle.open_handle import stored_search
from diptych.registry import Registry
from diptych.types import Document

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
TRIES = int(os.environ.get("DIPTYCH_DRAWN_CONFIGS", "50"))
SCHEMA = SearchConfig.model_json_schema()
SLOTS = {
    "dense": {"adapter": "fake-dense"},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    "late": {"adapter": "fake-multivector"},
}
INDEXES = {"year": "integer", "at": "datetime", "place": "geo", "kind": "keyword"}
DOCUMENTS = [
    Document(
        f"d{n}",
        " ".join(["rain", "snow", "wind", "hail", "fog"][n % 5 :]),
        metadata={"year": 2000 + n, "at": f"20{n:02}-01-01", "place": {"lat": n, "lon": -n}, "kind": "ab"[n % 2]},
    )
    for n in range(12)
]
# By key of the schema, where any text is allowed: what has a chance to fit, and what has none.
TEXTS = {
    "slot": [*SLOTS, "lexicl"],
    "adapter": ["fake-reranker"],
    "field": [*INDEXES, "nothing", "a.b"],
    "target": ["2020-01-01", "soon"],
    "deadline": ["5s", "30d"],
    "scale": ["300ms", "2w", "9" * 400 + "d"],
    "pin": [f"d{n}" for n in range(12)] + ["", "nowhere"],
    "exclude": ["d7", "d8", ""],
    "equals": ["a", ""],
}
WILD: list[object] = [0, -1, 2**31, 2**32, 2**63 - 1, 10**6, 1e39, -1e39, 1e300, 1e-46, 5e-324, True, "60", "", [], {}]
FIRST = {"retrieve": {"dense": 20, "lexical": 20}, "params": {"hnsw_ef": 20, "oversampling": 2.0}, "score_threshold": 0}
RRF = {"kind": "rrf", "k": 60, "weights": {"dense": 1}}
RERANK = {"adapter": "fake-reranker", "candidates": 8}
WHOLE: list[dict[str, Any]] = [
    {"retrieve": {"dense": 20}, "limit": 5, "passages": 3, "remember": 3, "recent": {"field": "year", "count": 2}},
    {"fuse": RRF, "rescore": {"slot": "late", "candidates": 10, "weight": 0.5}, "rerank": [{**RERANK, "weight": 0.5}]},
    {"fuse": RRF, "diversify": {"slot": "dense", "relevance": 0.5, "candidates": 9}},
    {"fuse": {"kind": "linear", "weights": {"dense": 1}}, "rerank": [{**RERANK, "deadline": 3}]},
    {"fuse": {"kind": "linear", "normalize": "zscore", "missing": -1.0, "weights": {"dense": 1}}},
    {"rerank": [{**RERANK, "weight": 1.0, "early_exit": {"block": 2, "patience": 1}}]},
    *(
        {"boost": [{**boost, "relative": relative, "weight": 0.5}]}
        for relative in (True, False)
        for boost in (
            {"kind": "field", "field": "kind", "equals": "a"},
            {"kind": "recency", "field": "at", "scale": 9, "midpoint": 0.5, "target": "2020-01-01"},
            {"kind": "number", "field": "year", "target": 2003, "scale": 2, "midpoint": 0.5},
            {"kind": "range", "field": "year", "low": 0, "high": 2009},
            {"kind": "geo", "field": "place", "lat": 1, "lon": 2, "scale": 9.0, "midpoint": 0.5},
        )
    ),
]


def values(schema: dict[str, Any], key: str = "") -> st.SearchStrategy[Any]:
    """What the schema allows at this key, and now and then something near it."""
    if "$ref" in schema:
        return values(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], key)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return st.one_of([values(choice, key) for choice in choices])
    if "const" in schema or "enum" in schema:
        return st.sampled_from([schema["const"]] if "const" in schema else schema["enum"])
    match schema.get("type"):
        case "object" if key == "options":
            return st.just({})
        case "object" if "properties" in schema:
            of_key = {name: values(value, name) for name, value in schema["properties"].items()}
            needed = {name: of_key.pop(name) for name in {*schema.get("required", []), "kind"} & {*of_key}}
            return st.fixed_dictionaries(needed, optional=of_key)
        case "object":
            return st.dictionaries(st.sampled_from(list(SLOTS)), values(schema["additionalProperties"], key))
        case "array":
            return st.lists(values(schema["items"], key), min_size=schema.get("minItems", 0), max_size=3)
        case "integer" | "number":
            return numbers(schema)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return st.sampled_from(TEXTS.get(key if key in TEXTS else "slot", []))


def numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    low = max(-9, schema.get("minimum", schema.get("exclusiveMinimum", -9)))
    high = max(low, min(40, schema.get("maximum", schema.get("exclusiveMaximum", 40))))
    tame: Any = st.floats(low, high) if schema["type"] == "number" else st.integers(low, high)
    return st.integers(0, 29).flatmap(lambda n: tame if n else st.sampled_from(WILD))


def places(value: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a config has a value that is no mapping and no list."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*at, key))
    else:
        yield at


def tried(search: dict[str, Any], store: str, fakes: Registry) -> bool:
    """Whether a config with this section opens; then a search answers, with finite scores."""
    config = {"collection": "c", "slots": SLOTS, "search": search, "populate": {"indexes": INDEXES}}
    try:
        collection = Collection.open({"store": store, **config}, registry=fakes)
    except ConfigError:
        return False
    with collection:
        collection.populate(DOCUMENTS)
        assert all(math.isfinite(hit.score) for hit in collection.search("rain and wind"))
        collection.search("snow", limit=1)
    return True


@pytest.fixture(params=["memory:", "edge:"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """A new store's URL."""
    return lambda: "memory:" if request.param == "memory:" else f"edge:{tmp_path_factory.mktemp('drawn')}"


def test_whatever_opens_can_search(store: Callable[[], str], fakes: Registry) -> None:
    opened = []

    @settings(max_examples=TRIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(values(SCHEMA))
    def search_with(search: dict[str, Any]) -> None:
        opened.append(tried(search, store(), fakes))

    search_with()
    assert sum(opened) > TRIES / 4


def test_a_stored_pipeline_that_cannot_search_gives_way_to_the_default(fakes: Registry) -> None:
    config = {"store": "memory:", "collection": "c", "slots": SLOTS}
    with Collection.open(config, registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        assert collection.handle.metadata is not None
        stored = {"rerank": [{**RERANK, "weight": 0.5, "early_exit": {}}]}
        with pytest.warns(FollowWarning, match=r"cannot search \(rerank\.0\)"):
            search = stored_search(collection.handle.metadata.model_copy(update={"search": stored}))
    assert search.rerank == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(len(WHOLE)))
def test_a_value_at_its_limits_is_rejected_or_can_search(part: int, store: Callable[[], str], fakes: Registry) -> None:
    whole = {**FIRST, **WHOLE[part]}
    assert tried(whole, store(), fakes)
    for at in places(whole):
        for wild in WILD:
            search = deepcopy(whole)
            section: Any = search
            for key in at[:-1]:
                section = section[key]
            section[at[-1]] = wild
            tried(search, store(), fakes)
