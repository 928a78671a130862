"""Filters that nobody should write, through the reader and a real search: hits, or an error that says what is wrong.

DIPTYCH_FUZZ_FILTERS says how many are tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from diptych import Collection, Document
from diptych.config import parse_config
from diptych.errors import SearchError
from diptych.registry import Registry
from diptych.search.filters import read_filter
from diptych.testing import fakes_plugin
from mutations import mutated

TRIES = int(os.environ.get("DIPTYCH_FUZZ_FILTERS", "250"))
UUID = "550e8400-e29b-41d4-a716-446655440000"
CONDITIONS: list[Any] = [
    {"key": "section", "match": {"value": "mail"}},
    {"key": "section", "match": {"text": "mail"}},
    {"key": "section", "match": {"phrase": "mail box"}},
    {"key": "section", "match": {"any": ["mail", "net"]}},
    {"key": "section", "match": {"except": ["mail"]}},
    {"key": "year", "match": {"value": 1897}},
    {"key": "year", "range": {"gte": 1800, "lt": 1900}},
    {"key": "added", "range": {"gte": "2024-01-01T00:00:00Z"}},
    {"key": "place", "geo_bounding_box": {"top_left": {"lon": 1, "lat": 9}, "bottom_right": {"lon": 9, "lat": 1}}},
    {"key": "place", "geo_radius": {"center": {"lon": 2.5, "lat": 48.8}, "radius": 1000.0}},
    {"key": "place", "geo_polygon": {"exterior": {"points": [
        {"lon": 0, "lat": 0}, {"lon": 9, "lat": 0}, {"lon": 9, "lat": 9}, {"lon": 0, "lat": 0}]}}},
    {"key": "tags", "values_count": {"gte": 1}},
    {"key": "tags[]", "match": {"value": "x"}},
    {"key": "maker.name", "match": {"value": "x"}},
    {"is_empty": {"key": "year"}},
    {"is_null": {"key": "year"}},
    {"has_id": [1, UUID]},
    {"has_vector": "lexical.1"},
    {"nested": {"key": "parts", "filter": {"must": [{"key": "name", "match": {"value": "x"}}]}}},
]  # fmt: skip


def right_filter(chance: random.Random) -> Any:
    """A filter that Qdrant takes, of one to four conditions."""
    drawn = [chance.choice(CONDITIONS) for _ in range(chance.randrange(1, 5))]
    clause = chance.choice(["must", "should", "must_not"])
    filter: dict[str, Any] = {clause: drawn if len(drawn) > 1 or chance.random() < 0.5 else drawn[0]}
    if chance.random() < 0.3:
        filter["min_should"] = {"conditions": [chance.choice(CONDITIONS)], "min_count": 1}
    return filter if chance.random() < 0.7 else {"must": [filter, chance.choice(CONDITIONS)]}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    registry = Registry(fakes_plugin, installed=False)
    config = parse_config(
        {
            "store": f"edge:{tmp_path_factory.mktemp('fuzz')}",
            "collection": "c",
            "slots": {"lexical": {"adapter": "fake-sparse"}},
            "populate": {"indexes": {"section": "keyword", "year": "integer", "added": "datetime", "place": "geo"}},
        }
    )
    documents = [
        Document(
            f"d{n}",
            f"words of document {n}",
            metadata={"section": "mail", "year": 1890 + n, "tags": ["x", "y"], "place": {"lon": 1.0, "lat": 2.0},
                      "maker": {"name": "x"}, "parts": [{"name": "x"}], "added": "2024-05-05"},
        )
        for n in range(20)
    ]  # fmt: skip
    with Collection.open(config, registry=registry) as opened:
        opened.populate(documents)
        yield opened


def tried(collection: Collection, given: Any) -> str:
    """`hits`, or the text of the error; anything else is raised."""
    try:
        collection.search("words", filter=read_filter(given))
    except SearchError as error:
        found = str(error)
    else:
        return "hits"
    found.encode()
    assert len(found) < 2000, f"{len(found)} characters: {found[:200]}"
    return found


def shown(given: Any) -> str:
    try:
        return repr(given)[:1000]
    except (RecursionError, ValueError) as error:
        return f"{type(error).__name__} in repr"


@pytest.mark.timeout(900)
def test_a_damaged_filter_finds_or_is_a_clear_error(collection: Collection) -> None:
    chance = random.Random(17)
    outcomes = []
    for number in range(TRIES):
        right = right_filter(chance)
        given = right if number % 20 == 0 else mutated(right, chance)
        if chance.random() < 0.5:
            with contextlib.suppress(RecursionError, ValueError):
                given = json.dumps(given)
        try:
            outcomes.append(tried(collection, given))
        except BaseException as error:
            pytest.fail(f"filter {number}: {type(error).__name__}: {str(error)[:300]} for {shown(given)}")
    refused = sum(outcome != "hits" for outcome in outcomes)
    assert TRIES * 0.1 < refused < TRIES * 0.97  # both happen, else nothing was tried
    assert len(collection.search("words", limit=20)) == 20  # it still answers
