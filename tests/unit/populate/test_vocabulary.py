"""A dense slot whose model cannot read the texts is named when a collection is first filled, and by `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych import Collection, Document, hookimpl
from diptych.config import parse_config
from diptych.protocols import VocabularyCheck
from diptych.registry import Registry
from diptych.specs import AdapterSpec
from diptych.swap.plan import plan
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder

TEXTS = ["кошка ловит мышь", "собака и white cat", "дом у реки"]


class ReadsLatin(FakeDenseEncoder):
    """Tells how many letters are not ASCII."""

    def unread_share(self, inputs: Sequence[str]) -> float:
        letters = [letter for text in inputs for letter in text if letter.isalpha()]
        return sum(not letter.isascii() for letter in letters) / len(letters)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="latin", kind="dense", factory=f"{__name__}:ReadsLatin", summary="for tests")]


def opened(**search: Any) -> Collection:
    slots = {"dense": {"adapter": "latin"}, "lexical": {"adapter": "bm25", "language": "russian"}}
    config = {"store": "memory:", "collection": "c", "slots": slots, "search": search, "cache": {"enabled": False}}
    return Collection.open(parse_config(config), registry=Registry(fakes_plugin, Plugin()))


def planned(collection: Collection) -> tuple[str, ...]:
    assert collection.handle.config is not None
    return plan(collection.handle, collection.handle.config).warnings


def test_the_first_populate_and_plan_warn_and_later_populates_do_not() -> None:
    assert isinstance(ReadsLatin(), VocabularyCheck)
    assert not isinstance(FakeDenseEncoder(), VocabularyCheck)
    with opened() as collection:
        report = collection.populate([Document(str(n), text) for n, text in enumerate(TEXTS)])
        (warning,) = report.warnings
        assert warning.startswith("slot 'dense': 78% of the letters of the first 3 documents are not in its model's")
        assert "name only lexical slots in search.retrieve" in warning
        assert warning in planned(collection)
        later = collection.populate([Document("4", "зима")])
        assert not any("vocabulary" in text for text in later.warnings)


def test_texts_that_are_read_and_slots_that_are_not_retrieved_are_no_matter() -> None:
    with opened() as collection:
        assert collection.populate([Document("1", "a white cat, кошка")]).warnings == ()
    with opened(retrieve={"lexical": 100}) as collection:
        assert collection.populate([Document("1", TEXTS[0])]).warnings == ()
        assert planned(collection) == ()
