"""A copy of slots whose queries a student makes, or whose documents keep few vectors, is searched and swapped alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry, hookimpl
from diptych.collection.verify import verify
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import CollectionError
from diptych.handle.collection_handle import CollectionHandle
from diptych.specs import AdapterSpec
from diptych.swap import plan, status
from diptych.testing import fakes_plugin
from spaces import PUPIL

Slots = Mapping[str, Any]
TEACHER: Slots = {"dense": {"adapter": "fake-dense", "dimension": 16}}
DOCUMENTS = [{"id": str(i), "text": f"word{i % 7} word{i % 11} word{i % 13} word{i % 5} number{i}"} for i in range(60)]
QUERIES = ("word3 word5", "number42 word6", "word1 word10 number7")


def taught(model: str) -> Slots:
    return {"dense": {**TEACHER["dense"], "query": {"student": model, "adapter": "pupil", "dimension": 16}}}


def reduced(keep: int) -> Slots:
    return {"late": {"adapter": "fake-multivector", "dimension": 8, "reduce": {"kind": "ward", "keep": keep}}}


CASES: Mapping[str, tuple[Slots, Slots, Slots]] = {
    "a student": (TEACHER, taught("near"), taught("nearer")),
    "fewer vectors": (reduced(4), reduced(2), reduced(3)),
}


class BringsPupils:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [PUPIL]


REGISTRY = Registry(fakes_plugin, BringsPupils(), installed=False)


def config(slots: Slots) -> Config:
    gate = {"sample": 8, "unmeasured": 1}
    return Config.model_validate({"collection": "c", "slots": slots, "swap": {"gate": gate}})


def opened(client: QdrantBase, slots: Slots | None = None, name: str = "c") -> Collection:
    return Collection(CollectionHandle(client, name, config(slots) if slots else None, REGISTRY))


def answers(collection: Collection) -> Any:
    """By query: the id and the score of each hit."""
    return [{hit.id: pytest.approx(hit.score, abs=1e-5) for hit in collection.search(q, limit=60)} for q in QUERIES]


def swapped(client: QdrantBase, before: Slots, after: Slots) -> Any:
    """A collection that was swapped from one to the other; what it answered in both states."""
    collection = opened(client, before)
    collection.populate(DOCUMENTS)
    first = answers(collection)
    assert collection.apply(config(after)).outcome == "cut over"
    return first, answers(opened(client, after))


def copied(source: QdrantBase, target: QdrantBase) -> None:
    copy_collection(source, "c", target, "copy", batch=16, registry=REGISTRY)


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(("here", "there"), [("memory", "edge"), ("edge", "memory")])
def test_a_copy_answers_alike_goes_back_and_goes_on(
    open_client: Callable[..., QdrantBase], here: str, there: str, kind: str
) -> None:
    before, after, other = CASES[kind]
    source, target = open_client(here, "one"), open_client(there, "two")
    first, second = swapped(source, before, after)
    assert first != second
    copied(source, target)
    copy = opened(target, after, "copy")
    assert answers(copy) == answers(opened(target, name="copy")) == second
    assert copy.handle.read().live == opened(source).handle.read().live
    assert status(copy.handle).vectors[0].asking == status(opened(source).handle).vectors[0].asking
    assert not plan(copy.handle, config(after)).pending
    assert verify(copy.handle, sample=None).passed
    assert copy.rollback().outcome == "rolled back"
    assert answers(opened(target, before, "copy")) == first
    assert copy.rollback().outcome == "rolled back"
    assert opened(target, after, "copy").apply(config(other)).outcome == "cut over"
    assert answers(opened(target, other, "copy")) not in (first, second)
    assert answers(opened(source, after)) == second, "the source stays as it is"


@pytest.mark.parametrize("kind", CASES)
def test_a_copy_refuses_a_config_from_before_the_swap(open_client: Callable[..., QdrantBase], kind: str) -> None:
    before, after, _ = CASES[kind]
    source, target = open_client("memory", "one"), open_client("memory", "two")
    swapped(source, before, after)
    copied(source, target)
    with pytest.raises(CollectionError, match=r"what makes the queries|reduce"):
        opened(target, before, "copy").search(QUERIES[0])
