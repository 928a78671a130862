"""What a plan says of each change: how many points it affects, and for how many of them a vector is made."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.adopt import adopt
from diptych.swap import Plan
from diptych.testing.fakes import FakeDenseEncoder
from swaps import DENSE, OTHER, Faults, Make, Open, corpus

SECOND: dict[str, Any] = {**DENSE, "seed": 3}


def steps(plan: Plan) -> dict[str, tuple[str, int, int]]:
    return {step.slot: (step.action, step.points, step.encode) for step in plan.steps}


def add(client: QdrantBase, vector: str, encoder: FakeDenseEncoder, number: int, **payload: Any) -> None:
    """A point as another program writes it: one vector alone."""
    made = encoder.encode_document([payload.get("text", "")])[0].tolist()
    client.upsert("c", [models.PointStruct(id=number, vector={vector: made}, payload=payload)])


def test_points_that_lack_a_vector_of_an_unchanged_slot_are_planned_and_pending_until_they_are_filled(
    client: QdrantBase, config: Make, opened: Open, fakes: Registry
) -> None:
    params = models.VectorParams(size=16, distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config={"a": params, "b": params})
    texts = [f"word{n % 17} number{n}" for n in range(40)]
    one, two = (FakeDenseEncoder(dimension=16, seed=seed).encode_document(texts).tolist() for seed in (0, 3))
    for n, text in enumerate(texts):
        vectors = {"a": one[n], "b": two[n]} if n < 20 else {"a": one[n]}
        client.upsert("c", [models.PointStruct(id=n, vector=vectors, payload={"text": text})])
    both = config({"a": DENSE, "b": SECOND})
    adopt(client, "c", both, vectors={"a": "a", "b": "b"}, registry=fakes)
    found = opened(client)
    plan = found.plan(both)
    assert steps(plan) == {"a": ("keep", 0, 0), "b": ("keep", 20, 20)}
    assert plan.pending
    assert plan.steps[1].rate is not None
    report = found.apply(both)
    assert (report.outcome, report.encoded) == ("filled gaps", {"b": 20})
    plan = found.plan(both)
    assert (steps(plan)["b"], plan.pending) == (("keep", 0, 0), False)
    assert found.apply(both).outcome == "nothing to do"


@pytest.mark.parametrize("payload", [{}, {"text": " "}, {"text": None}, {"other": "words"}])
def test_points_without_a_text_are_never_pending(
    client: QdrantBase, config: Make, opened: Open, payload: dict[str, Any]
) -> None:
    found = opened(client, config({"dense": DENSE, "second": SECOND}))
    found.populate(corpus(20))
    add(client, "dense.1", FakeDenseEncoder(dimension=16), 7, **payload)
    wanted = config({"dense": DENSE, "second": SECOND})
    assert not found.plan(wanted).pending
    assert found.apply(wanted).outcome == "nothing to do"
    assert not found.plan(wanted).pending


def test_each_change_says_how_many_points_it_affects_and_how_many_it_encodes(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE, "second": SECOND}))
    found.populate(corpus(20))
    add(client, "dense.1", FakeDenseEncoder(dimension=16), 7, text="word1 of another program")

    def planned(slots: dict[str, Any]) -> dict[str, tuple[str, int, int]]:
        return steps(found.plan(config(slots), sample=0))

    assert planned({"dense": OTHER}) == {"dense": ("re-encode", 21, 21), "second": ("drop", 20, 0)}
    stored = {**SECOND, "storage": {"on_disk": True}}
    assert planned({"dense": {**DENSE, "storage": {"on_disk": True}}, "second": stored}) == {
        "dense": ("storage", 21, 0),
        "second": ("storage", 21, 1),
    }
    prompted = {**DENSE, "query_prompt": "find"}
    assert planned({"dense": prompted, "second": {**SECOND, "record": False}, "third": DENSE}) == {
        "dense": ("re-prompt", 21, 0),
        "second": ("numerics", 1, 1),
        "third": ("add", 21, 21),
    }


def test_vectors_that_are_used_again_say_how_many_points_lack_them_and_are_filled(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(20))
    found.apply(config({"dense": OTHER}))
    assert steps(found.plan(config({"dense": DENSE}))) == {"dense": ("reuse", 20, 0)}
    add(client, "dense.2", FakeDenseEncoder(dimension=16, seed=1), 7, text="word1 of another program")
    plan = found.plan(config({"dense": DENSE}))
    assert steps(plan) == {"dense": ("reuse", 21, 1)}
    assert plan.seconds > 0
    assert found.apply(config({"dense": DENSE})).encoded == {"dense.1": 1}
    assert faults(client, "dense.1", FakeDenseEncoder(dimension=16)) == []
