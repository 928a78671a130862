"""Queries go on through a swap: none fails, and each answer is wholly one encoder's, told by recomputing its scores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection, hookimpl
from diptych.errors import SearchError
from diptych.handle import collection_handle
from diptych.handle.snapshot import View
from diptych.search import search
from diptych.search.run import on_current_view
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document, Hit
from loads import Load
from named_server import require_vector_names

OLD: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}
NEW: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16, "seed": 1}}
SLOW: dict[str, Any] = {"dense": {**NEW["dense"], "delay": 0.03}}
ENCODERS = {"old": FakeDenseEncoder(dimension=16), "new": FakeDenseEncoder(dimension=16, seed=1)}
QUERIES = [f"word{number % 17} number{number}" for number in range(24)]
Open: TypeAlias = Callable[..., Collection]
Make: TypeAlias = Callable[..., Any]


def corpus(size: int) -> list[Document]:
    return [Document(str(n), f"word{n % 17} word{n % 23} number{n}") for n in range(size)]


@pytest.fixture(autouse=True)
def _follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_handle, "REFRESH", 0.02)


def whose(query: str, hits: list[Hit]) -> str:
    """The encoder whose scores, recomputed from the texts, are those of all hits."""
    found = []
    for name, encoder in ENCODERS.items():
        wanted = encoder.encode_document([hit.document.text for hit in hits]) @ encoder.encode_query([query])[0]
        if np.allclose(wanted, [hit.score for hit in hits], atol=1e-4):
            found.append(name)
    return found[0] if len(found) == 1 and hits else "nobody"


@pytest.mark.slow
def test_queries_through_every_step_of_a_swap_never_fail_and_never_mix_spaces(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    applying = opened(client, config(OLD))
    applying.populate(corpus(120))
    serving = opened(client)
    with Load(applying, QUERIES, limit=5) as same, Load(serving, QUERIES, limit=5) as other:
        loads = (same, other)
        steps: list[Callable[[], object]] = [
            lambda: applying.apply(config(SLOW)),
            applying.rollback,
            lambda: applying.apply(config(SLOW)),
            applying.finish,
            lambda: applying.apply(config(OLD), ApplyOptions(cut_over=False)),
            applying.rollback,
            lambda: applying.apply(config(OLD)),
            applying.finish,
        ]
        for step in steps:
            step()
            for load in loads:
                load.wait_for(10)
    for load in loads:
        assert load.errors == []
        answers = [whose(QUERIES[number], hits) for number, hits in load.answers]
        assert set(answers) == {"old", "new"}
        assert answers[-1] == "old"
        assert len(answers) > 200


def test_a_serving_handle_follows_a_cut_over_and_a_rollback_by_itself(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    opened(client, config(OLD)).populate(corpus(40))
    serving, applying = opened(client), opened(client)
    applying.apply(config(NEW))
    assert wait_until(lambda: whose(QUERIES[0], serving.search(QUERIES[0])) == "new")
    applying.rollback()
    assert wait_until(lambda: whose(QUERIES[0], serving.search(QUERIES[0])) == "old")


def test_a_handle_on_a_vector_that_was_dropped_recovers_at_its_next_query(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)
    opened(client, config(OLD)).populate(corpus(40))
    serving, applying = opened(client), opened(client)
    assert whose(QUERIES[0], serving.search(QUERIES[0])) == "old"
    applying.apply(config(NEW))
    assert whose(QUERIES[1], serving.search(QUERIES[1])) == "old"
    applying.finish()
    assert whose(QUERIES[2], serving.search(QUERIES[2])) == "new"
    assert serving.handle.slots["dense"].vector == "dense.2"


def test_a_query_recovers_when_the_look_of_another_query_exchanged_the_view_meanwhile(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)
    opened(client, config(OLD)).populate(corpus(40))
    serving, applying = opened(client), opened(client)
    assert whose(QUERIES[0], serving.search(QUERIES[0])) == "old"
    applying.apply(config(NEW))
    applying.finish()

    def answer(view: View) -> list[Hit]:
        serving.handle.catch_up()
        return search(view, [QUERIES[1]])[0]

    assert whose(QUERIES[1], on_current_view(serving.handle, answer)) == "new"


class Noting(FakeDenseEncoder):
    """Notes whether each thread that made one is a daemon, which Python does not wait for when it ends."""

    daemons: ClassVar[list[bool]] = []

    def __init__(self) -> None:
        super().__init__(dimension=16, seed=1)
        self.daemons.append(threading.current_thread().daemon)


class NotingPlugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="noting", kind="dense", factory=f"{__name__}:Noting", summary="notes its threads")]


def test_a_model_that_a_serving_process_follows_to_is_loaded_by_a_thread_that_python_waits_for(
    memory: QdrantBase, config: Make, opened: Open
) -> None:
    applying = opened(memory, config(OLD), NotingPlugin())
    applying.populate(corpus(10))
    serving = opened(memory, None, NotingPlugin())
    serving.search(QUERIES[0])
    applying.apply(config({"dense": {"adapter": "noting"}}), ApplyOptions(gate=False))
    Noting.daemons.clear()
    assert wait_until(lambda: whose(QUERIES[0], serving.search(QUERIES[0])) == "new")
    assert Noting.daemons == [False]


def test_a_handle_recovers_in_a_batch_in_groups_in_explain_and_with_a_pipeline_of_its_own(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    from diptych.search import Retrieve

    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)
    opened(client, config(OLD)).populate([{"id": d.id, "text": d.text, "part": "a"} for d in corpus(40)])
    query, ways = QUERIES[0], dict[str, Callable[[Collection], Any]]()
    ways["batch"] = lambda found: found.search_batch([query])[0]
    ways["pipeline"] = lambda found: found.search(query, pipeline=Retrieve("dense", 5))
    ways["groups"] = lambda found: found.search_groups(query, group_by="part")[0].hits
    ways["explain"] = lambda found: [Hit(one.document, one.score or 0.0) for one in found.explain(query)]
    serving = {name: opened(client) for name in ways}
    for found in serving.values():
        found.search(query)
    applying = opened(client)
    applying.apply(config(NEW))
    applying.finish()
    assert {name: whose(query, list(way(serving[name]))) for name, way in ways.items()} == dict.fromkeys(ways, "new")


def test_a_query_that_is_wrong_in_itself_is_still_an_error(memory: QdrantBase, config: Make, opened: Open) -> None:
    from diptych.search import Retrieve

    found = opened(memory, config(OLD))
    found.populate(corpus(5))
    with pytest.raises(SearchError, match="nowhere"):
        found.search("word1", pipeline=Retrieve("nowhere"))


def test_rollback_gives_the_same_first_ten_as_before_the_swap(client: QdrantBase, config: Make, opened: Open) -> None:
    found = opened(client, config(OLD))
    found.populate(corpus(120))
    before = [[(hit.id, hit.score) for hit in hits] for hits in found.search_batch(QUERIES)]
    found.apply(config(NEW))
    assert [[(hit.id, hit.score) for hit in hits] for hits in found.search_batch(QUERIES)] != before
    found.rollback()
    for again in (found, opened(client), opened(client, config(OLD))):
        assert [[(hit.id, hit.score) for hit in hits] for hits in again.search_batch(QUERIES)] == before


@pytest.mark.slow
@pytest.mark.parametrize("slot", ["sparse", "multivector"])
def test_slots_of_other_kinds_never_mix_spaces_either(
    client: QdrantBase, config: Make, opened: Open, slot: str
) -> None:
    """Both encoders share the kind, and a score of one is never the other's."""
    adapter = {"sparse": "fake-calibrated", "multivector": "fake-multivector"}[slot]
    old, new = {"own": {"adapter": adapter}}, {"own": {"adapter": adapter, "dimension": 24, "delay": 0.01}}
    found = opened(client, config(old))
    found.populate(corpus(60))
    scores = {"old": _scores(found)}
    with Load(opened(client), QUERIES, limit=5) as load:
        found.apply(config(new))
        scores["new"] = _scores(found)
        load.wait_for(30)
        found.finish()
        load.wait_for(30)
    assert load.errors == []
    for number, hits in load.answers:
        query = QUERIES[number]
        assert any(_close(hits, whole[query]) for whole in scores.values())


def _scores(found: Collection) -> dict[str, dict[str, float]]:
    hits = found.search_batch(QUERIES, limit=60)
    return {query: {hit.id: hit.score for hit in own} for query, own in zip(QUERIES, hits, strict=True)}


def _close(hits: list[Hit], whole: dict[str, float]) -> bool:
    return all(hit.id in whole and abs(hit.score - whole[hit.id]) < 1e-4 for hit in hits)


def wait_until(true: Callable[[], bool]) -> bool:
    """Whether it became true within a minute."""
    until = time.monotonic() + 60
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
