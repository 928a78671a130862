"""Pinned and excluded documents, and examples that move the scores of dense slots; of one tenant, its own alone."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from httpx import Headers
from qdrant_client.http.exceptions import UnexpectedResponse

from diptych import Collection, Query, Registry
from diptych.config import parse_config
from diptych.config.models import Config, SearchConfig
from diptych.errors import ConfigError, SearchError
from diptych.search import Dbsf, Diversify, Linear, Pipeline, Rerank, Rescore, Retrieve, Rrf
from diptych.search.query import WEIGHT
from diptych.swap import ApplyOptions
from diptych.testing import FakeReranker, fakes_plugin

from .conftest import Open

SLOTS: dict[str, Any] = {
    "dense": {"adapter": "fake-dense", "dimension": 16},
    "dotted": {"adapter": "fake-dense", "dimension": 12, "similarity": "dot"},
    "far": {"adapter": "fake-dense", "dimension": 16, "similarity": "euclidean"},
    "short": {"adapter": "fake-dense", "dimension": 16, "storage": {"first_stage": {"dimension": 8}}},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
}
BOTH = Retrieve("dense", 40) + Retrieve("lexical", 40)
QUERY = "word1 word7 word9"
PIPELINES: list[Pipeline | Retrieve | None] = [
    None,
    Retrieve("dense"),
    BOTH >> Rrf(),
    BOTH >> Linear(),
    BOTH >> Dbsf() >> Rescore("dotted", 40),
    BOTH >> Dbsf() >> Diversify("dense", 0.5, 40),
    BOTH >> Dbsf() >> Rerank(FakeReranker(), 40),
]
Make = Callable[..., Collection]


@pytest.fixture(scope="module")
def make(opened: Open) -> Make:
    search = {"retrieve": {"dense": 40, "lexical": 40}}
    return lambda **parts: opened({"slots": SLOTS, "search": search, **parts})


def rows(count: int = 40, **more: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(6)
    texts = [" ".join(f"word{random.integers(0, 20)}" for _ in range(3 + n % 13)) for n in range(count)]
    return [{"id": f"d{n}", "text": text, "part": n % 3, **more} for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def collection(make: Make) -> Collection:
    opened = make()
    opened.populate(rows())
    return opened


def config_of(collection: Collection) -> Config:
    assert collection.handle.config is not None
    return collection.handle.config


def ids(collection: Any, **options: Any) -> list[str]:
    return [hit.id for hit in collection.search(QUERY, **options)]


# Pinned and excluded documents


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_pins_come_first_and_pages_fit_together(collection: Collection, pipeline: Pipeline | None) -> None:
    pins = ["d38", "no such", "d5", "d11"]
    whole = ids(collection, pipeline=pipeline, pin=pins, limit=30)
    assert whole[:3] == ["d38", "d5", "d11"]
    assert len({*whole}) == 30
    pages = [ids(collection, pipeline=pipeline, pin=pins, limit=1, offset=start) for start in range(6)]
    if not (pipeline and isinstance(pipeline, Pipeline) and pipeline.diversify):
        assert whole[3:] == ids(collection, pipeline=pipeline, exclude=pins, limit=27)
        assert [name for page in pages for name in page] == whole[:6]
    hits = collection.search(QUERY, pipeline=pipeline, pin=pins, limit=5)
    assert [hit.stages.get("pinned") for hit in hits] == [1.0, 2.0, 3.0, None, None]
    assert {hit.score for hit in hits[:3]} == {max(hit.score for hit in hits[3:])}


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_excluded_documents_take_no_candidates(collection: Collection, pipeline: Pipeline | None) -> None:
    first = ids(collection, pipeline=pipeline, limit=3)
    left = ids(collection, pipeline=pipeline, exclude=[*first, "no such"], limit=37)
    assert len(left) == 37
    assert not {*left} & {*first}


def test_a_filter_holds_for_pins_and_a_threshold_does_not(collection: Collection) -> None:
    assert ids(collection, pin=["d1", "d3"], where={"part": 0}, limit=3)[0] == "d3"
    assert "d1" not in ids(collection, pin=["d1", "d3"], where={"part": 0}, limit=40)
    hits = collection.search(QUERY, pin=["d1"], score_threshold=1e9)
    assert [(hit.id, hit.score) for hit in hits] == [("d1", 0.0)]
    (hit,) = collection.search(QUERY, pin=["d1"], limit=1, with_payload=["part"])
    assert (hit.document.text, dict(hit.document.metadata)) == ("", {"part": 1})


def test_pins_hold_in_groups_vectors_and_explanations(collection: Collection) -> None:
    options: dict[str, Any] = {"pin": ["d20", "d3"], "exclude": ["d7"]}
    for pipeline in (None, Retrieve("dense", 40)):
        groups = collection.search_groups(QUERY, group_by="part", group_size=2, pipeline=pipeline, **options)
        assert [(group.value, group.hits[0].id) for group in groups][:2] == [(2, "d20"), (0, "d3")]
    vector = collection.handle.slots["dense"].encode("query", [QUERY])[0]
    hits = collection.search_by_vector(vector, Retrieve("dense"), pin=["d20"], exclude=["d3"], limit=40)
    assert (hits[0].id, len(hits)) == ("d20", 39)
    explanations = collection.explain(QUERY, limit=3, **options)
    assert [(e.rank, e.document.id, "pinned" in e.notes) for e in explanations][:2] == [
        (1, "d20", True),
        (2, "d3", True),
    ]
    assert explanations[0].slots["dense"].score is not None
    assert collection.explain(QUERY, ids=["d7"], **options)[0].lost == "excluded by id"


def test_the_config_pins_for_its_own_pipeline_and_excludes_for_all(make: Make) -> None:
    search = {"retrieve": {"dense": 40, "lexical": 40}, "pin": ["d9"], "exclude": ["d2"]}
    collection = make(search=search)
    collection.populate(rows())
    assert ids(collection)[0] == "d9"
    assert len(ids(collection, pipeline="dense", limit=40)) == 39
    assert "pinned" not in collection.search(QUERY, pipeline="dense", limit=40)[0].stages
    assert "pinned" not in collection.search(QUERY, pin=[])[0].stages
    assert "d2" not in ids(collection, exclude=["d3"], limit=38)
    stored = Collection.open(collection.client, collection.name, registry=Registry(fakes_plugin, installed=False))
    assert (stored.handle.search_config.pin, stored.handle.search_config.exclude) == (["d9"], ["d2"])
    assert ids(stored)[0] == "d9"
    without = config_of(collection).model_copy(update={"search": SearchConfig.model_validate({**search, "pin": []})})
    assert "search.pin" in collection.plan(without, sample=0).search_why


def test_apply_carries_new_keys_and_its_gate_sees_them(make: Make) -> None:
    collection = make(search={"retrieve": {"dense": 40}})
    collection.populate(rows())
    search = {
        "retrieve": {"dense": 40},
        "boost": [{"kind": "recency", "field": "at", "scale": "30d", "target": "2026-01-01T00:00:00Z"}],
        "rescore": {"slot": "dotted", "weight": 0.5},
        "rerank": [{"adapter": "fake-reranker", "candidates": 10, "deadline": "5s"}],
        "pin": ["d9"],
    }
    config = config_of(collection).model_copy(update={"search": SearchConfig.model_validate(search)})
    plan = collection.plan(config, sample=0)
    assert {"boost", "weight", "pin"} <= {*re.findall(r"boost|weight|pin", plan.search_why)}
    report = collection.apply(config, ApplyOptions(unmeasured=True))
    assert (report.outcome, report.gate is None) == ("changed settings", False)
    stored = Collection.open(collection.client, collection.name, registry=Registry(fakes_plugin, installed=False))
    assert stored.handle.search_config == config.search
    assert not stored.plan(config, sample=0).search
    assert ids(stored)[0] == "d9"


def test_pins_and_exclusions_that_cannot_be_are_refused(collection: Collection) -> None:
    with pytest.raises(SearchError, match=r"pinned and excluded\n.*d1"):
        collection.search(QUERY, pin=["d1"], exclude=["d1"])
    with pytest.raises(ConfigError, match=r"'d1' is both pinned and excluded"):
        parse_config({"collection": "c", "slots": SLOTS, "search": {"pin": ["d1"], "exclude": ["d1"]}})


# Examples


def similarity(collection: Collection, slot: str, side: Any, texts: list[str]) -> np.ndarray:
    """`[texts, documents]` by the slot's encoder alone."""
    encode = collection.handle.slots[slot].encode
    left = np.array(encode(side, texts), np.float64)
    right = np.array(encode("document", [row["text"] for row in rows()]), np.float64)
    if collection.handle.slots[slot].similarity == "cosine":
        left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    return np.asarray(left @ right.T)


@pytest.mark.parametrize("slot", ["dense", "dotted", "short"])
@pytest.mark.parametrize(
    ("like", "unlike"),
    [(["d3"], ["d8"]), (["d3", "d4", Query("word2 word3")], ["d8", "d9"]), (["d3"], []), ([], ["d8", Query("word5")])],
    ids=["one of each", "several", "liked alone", "unliked alone"],
)
def test_examples_move_scores_as_the_formula_says(
    collection: Collection, slot: str, like: list[str | Query], unlike: list[str | Query]
) -> None:
    texts = {row["id"]: row["text"] for row in rows()}
    query = similarity(collection, slot, "query", [QUERY])[0]

    def mean(examples: list[str | Query]) -> np.ndarray:
        words = [one.text if isinstance(one, Query) else texts[one] for one in examples]
        return np.asarray(similarity(collection, slot, "document", words).mean(axis=0)) if words else query

    expected = dict(zip(texts, query + WEIGHT * (mean(like) - mean(unlike)), strict=True))
    hits = collection.search(QUERY, pipeline=Retrieve(slot, 40), like=like, unlike=unlike, limit=40)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-4)
    if slot != "dotted":  # of a dot product, a document is not always the nearest to itself
        places = [ids(collection, pipeline=Retrieve(slot, 40), limit=40), [hit.id for hit in hits]]
        for example in (one for one in like if isinstance(one, str)):
            assert places[1].index(example) <= places[0].index(example)


def test_explain_says_which_slots_examples_move(collection: Collection) -> None:
    explanation = collection.explain(QUERY, like=["d3", "d4"], unlike=["d8"], limit=1)[0]
    assert explanation.notes == ("2 liked and 1 unliked examples move the scores of: dense",)
    parts = [part.contribution or 0.0 for part in explanation.slots.values()]
    assert sum(parts) == pytest.approx(explanation.score, abs=1e-4)
    plain = collection.explain(QUERY, ids=[explanation.document.id])[0]
    assert plain.slots["lexical"].score == pytest.approx(explanation.slots["lexical"].score, abs=1e-4)
    assert plain.slots["dense"].score != pytest.approx(explanation.slots["dense"].score, abs=1e-4)


def test_examples_that_cannot_be_are_refused(collection: Collection) -> None:
    with pytest.raises(SearchError, match=r"there is no such document\n.*\n.*'nope'"):
        collection.search(QUERY, like=["d1", "nope"])
    with pytest.raises(SearchError, match=r"need a dense slot\n.*Retrieve\('lexical', 100\)\n.*lexical: sparse"):
        collection.search(QUERY, like=["d1"], pipeline="lexical")
    with pytest.raises(SearchError, match=r"need a dense slot.*\n.*\n.*far: euclidean"):
        collection.search(QUERY, like=["d1"], pipeline="far")
    with pytest.raises(SearchError, match="a query is empty"):
        collection.search(QUERY, unlike=[Query(" ")])


# Tenants


@pytest.fixture(scope="module")
def shared(make: Make) -> Collection:
    collection = make(tenant={"field": "customer"})
    for tenant, count in (("a", 20), ("b", 40)):
        collection.populate(rows(count, customer=tenant), tenant=tenant)
    return collection


def test_a_document_of_another_tenant_cannot_be_pinned(shared: Collection) -> None:
    mine = shared.for_tenant("a")
    assert ids(mine, pin=["d30", "d3"], limit=20) == ids(mine, pin=["no such", "d3"], limit=20)
    (first, *_) = mine.search(QUERY, pin=["d3"])
    assert (first.id, first.document.metadata["customer"]) == ("d3", "a")
    pages = [ids(mine, pin=["d30", "d3"], limit=2, offset=start) for start in (0, 2, 4)]
    assert [name for page in pages for name in page] == ids(mine, pin=["d3"], limit=6)


def test_an_excluded_document_is_that_of_the_tenant(shared: Collection) -> None:
    assert len(ids(shared.for_tenant("a"), exclude=["d3", "d30"], limit=40)) == 19
    assert len(ids(shared.for_tenant("b"), exclude=["d3", "d30"], limit=40)) == 38


def test_another_tenants_example_reads_like_one_that_is_missing(shared: Collection) -> None:
    messages = []
    for name in ("d30", "d99"):
        with pytest.raises(SearchError, match="there is no such document") as caught:
            shared.for_tenant("a").search(QUERY, like=[name])
        messages.append(str(caught.value).replace(repr(name), "ID"))
    assert messages[0] == messages[1]
    assert len(ids(shared.for_tenant("b"), like=["d30"])) == 10


def test_a_config_excludes_the_document_of_each_tenant(make: Make) -> None:
    collection = make(tenant={"field": "customer"}, search={"retrieve": {"dense": 9}, "exclude": ["d1"], "pin": ["d2"]})
    collection.populate(rows(4, customer="a"), tenant="a")
    collection.warm()
    assert ids(collection.for_tenant("a"))[0] == "d2"
    assert {*ids(collection.for_tenant("a"))} == {"d0", "d2", "d3"}


# The recent window


@pytest.fixture(scope="module")
def conversation(make: Make) -> Collection:
    search = {"retrieve": {"dense": 40, "lexical": 40}, "recent": {"field": "turn", "count": 3}, "pin": ["d7"]}
    opened = make(search=search, populate={"indexes": {"turn": "integer"}})
    opened.populate([{**row, **({"turn": n} if n < 38 else {})} for n, row in enumerate(rows())])
    return opened


def test_the_newest_come_with_every_answer_after_the_pins(conversation: Collection) -> None:
    found = conversation.search(QUERY, limit=8)
    assert [hit.id for hit in found[:4]] == ["d7", "d37", "d36", "d35"]
    assert [hit.stages.get("pinned") for hit in found] == [1.0, 2.0, 3.0, 4.0, None, None, None, None]
    assert len({hit.id for hit in found}) == 8
    assert ids(conversation, limit=8, pin=["d36"])[:4] == ["d36", "d37", "d35", "d34"]
    assert ids(conversation, limit=8, exclude=["d37"])[1:4] == ["d36", "d35", "d34"]
    assert ids(conversation, limit=8, where={"turn": {"lt": 10}})[:4] == ["d7", "d9", "d8", "d6"]
    assert ids(conversation, pipeline="dense", limit=8) == ids(conversation, pipeline=Retrieve("dense"), limit=8)
    assert not {"d37", "d36", "d35"} <= {*ids(conversation, pipeline="dense", limit=8)}


def test_a_threshold_leaves_the_window_and_what_fits(conversation: Collection) -> None:
    assert ids(conversation, score_threshold=1e9) == ["d7", "d37", "d36", "d35"]
    best, second, *_ = [hit for hit in conversation.search(QUERY, limit=40) if "pinned" not in hit.stages]
    assert ids(conversation, score_threshold=(best.score + second.score) / 2)[4:] == [best.id]
    pages = [ids(conversation, limit=2, offset=start) for start in (0, 2, 4)]
    assert [name for page in pages for name in page] == ids(conversation, limit=6)


def test_a_document_that_is_written_becomes_the_newest(make: Make) -> None:
    chat = make(search={"recent": {"field": "turn", "count": 1}}, populate={"indexes": {"turn": "integer"}})
    for turn in range(3):
        chat.populate([{"id": f"turn{turn}", "text": f"word{turn}", "turn": turn}])
        assert ids(chat, limit=3)[0] == f"turn{turn}"


def test_of_a_tenant_the_window_holds_its_own_alone(make: Make) -> None:
    search = {"retrieve": {"dense": 40}, "recent": {"field": "turn", "count": 2}}
    parts = {"search": search, "populate": {"indexes": {"turn": "integer"}}, "tenant": {"field": "owner"}}
    opened = make(**parts)
    opened.populate([{**row, "owner": "ab"[n % 2], "turn": n} for n, row in enumerate(rows())])
    assert ids(opened, tenant="a", limit=6)[:2] == ["d38", "d36"]
    assert ids(opened, tenant="b", limit=6)[:2] == ["d39", "d37"]


@pytest.mark.parametrize(
    ("indexes", "got", "do"),
    [
        ({}, "'turn', not indexed", "populate: {indexes: {turn: datetime}}"),
        ({"turn": "keyword"}, "'turn', indexed as keyword", "populate: {indexes: {turn: datetime}}"),
        ({"turns": "integer", "true": "keyword"}, "'turn', not indexed", "do: did you mean 'turns'?"),
    ],
)
def test_a_window_by_a_field_that_cannot_order_is_refused(indexes: dict[str, str], got: str, do: str) -> None:
    raw = {
        "store": "memory:",
        "collection": "c",
        "slots": {"lexical": {"adapter": "bm25"}},
        "search": {"recent": {"field": "turn"}},
        "populate": {"indexes": indexes},
    }
    with pytest.raises(ConfigError, match=r"documents cannot be ordered by this field") as refused:
        parse_config(raw)
    assert got in str(refused.value)
    assert do in str(refused.value)


def test_a_document_with_several_values_is_one_of_the_newest(make: Make) -> None:
    opened = make(search={"recent": {"field": "turn", "count": 3}}, populate={"indexes": {"turn": "integer"}})
    opened.populate([{**row, "turn": [9, 10, 11] if n == 9 else n % 9} for n, row in enumerate(rows(12))])
    found = ids(opened, limit=8)
    assert found[0] == "d9"
    assert len({*found}) == 8
    assert [hit.stages.get("pinned") for hit in opened.search(QUERY, limit=4)] == [1.0, 2.0, 3.0, None]


def test_a_coroutine_finds_the_newest_without_blocking_its_loop(
    conversation: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    scroll, threads = conversation.handle.client.scroll, set[int]()

    def seen(*args: Any, **options: Any) -> Any:
        threads.add(threading.get_ident())
        return scroll(*args, **options)

    monkeypatch.setattr(conversation.handle.client, "scroll", seen)
    hits = asyncio.run(conversation.asearch(QUERY, limit=8))
    assert threads
    assert threading.get_ident() not in threads
    assert [hit.id for hit in hits] == ids(conversation, limit=8)


def test_a_window_without_an_index_in_the_store_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make(search={"recent": {"field": "turn"}}, populate={"indexes": {"turn": "integer"}})
    opened.populate([{**row, "turn": n} for n, row in enumerate(rows())])

    def scroll(*args: Any, **options: Any) -> Any:
        raise UnexpectedResponse(400, "Bad Request", b'{"status":{"error":"No range index for `turn`"}}', Headers())

    monkeypatch.setattr(opened.handle.client, "scroll", scroll)
    with pytest.raises(SearchError, match="the newest documents cannot be found") as refused:
        opened.search(QUERY)
    assert "search.recent.field 'turn'" in str(refused.value)
    assert "No range index" in str(refused.value)
