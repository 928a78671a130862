"""Dense slots that cannot read the texts, or no order of words, are named at the first populate and by `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diptych import Collection, Document, hookimpl
from diptych.config import Config, parse_config
from diptych.handle.open_handle import with_stored_default
from diptych.protocols import VocabularyCheck
from diptych.registry import Registry
from diptych.slots.unread import unfit_fusion
from diptych.specs import AdapterSpec
from diptych.swap.plan import plan
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Floats

TEXTS = ["кошка ловит мышь", "собака и white cat", "дом у реки"]


class ReadsLatin(FakeDenseEncoder):
    """Tells how many letters are not ASCII."""

    def unread_share(self, inputs: Sequence[str]) -> float:
        letters = [letter for text in inputs for letter in text if letter.isalpha()]
        return sum(not letter.isascii() for letter in letters) / len(letters)


class ReadsOrder(FakeDenseEncoder):
    """Counts each word with the one before it."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        pairs = [pairwise(text.split()) for text in inputs]
        return super().encode_document([" ".join(one + other for one, other in own) for own in pairs])


class Crowded(ReadsOrder):
    """Adds a large vector to those of texts with a cat."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        vectors = super().encode_document(inputs)
        return vectors + np.array([[30.0 * ("cat" in text)] for text in inputs], np.float32)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        classes = {"latin": ReadsLatin, "ordered": ReadsOrder, "crowded": Crowded}
        return [
            AdapterSpec(name=name, kind="dense", factory=f"{__name__}:{made.__name__}", summary="for tests")
            for name, made in classes.items()
        ]


ENGLISH = [Document(str(n), f"cat{n} and dog{n} on roof{n} with bird{n} under moon{n}") for n in range(24)]
LEXICAL = {"adapter": "bm25", "language": "russian"}


def opened(store: str = "memory:", dense: str = "latin", **search: Any) -> Collection:
    slots = {"dense": {"adapter": dense}, "lexical": LEXICAL}
    config = {"store": store, "collection": "c", "slots": slots, "search": search, "cache": {"enabled": False}}
    return Collection.open(parse_config(config), registry=Registry(fakes_plugin, Plugin()))


def documents(count: int) -> list[Document]:
    return [Document(str(n), f"{TEXTS[n % 3]} {n}") for n in range(count)]


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
        assert warning.endswith(
            "makes a hybrid search worse: use a model for this language, or give the slot little weight: "
            "fuse: {kind: linear, normalize: zscore, missing: -2.5, weights: {dense: 0.2}}"
        )
        assert collection.handle.search_config.fuse.kind == "dbsf", "three texts decide nothing"
        assert warning in planned(collection)
        later = collection.populate([Document("4", "зима")])
        assert not any("vocabulary" in text for text in later.warnings)


def test_texts_that_are_read_and_slots_that_are_not_retrieved_are_no_matter() -> None:
    with opened() as collection:
        assert collection.populate([Document("1", "a white cat, кошка")]).warnings == ()
    with opened(retrieve={"lexical": 100}) as collection:
        assert collection.populate([Document("1", TEXTS[0])]).warnings == ()
        assert planned(collection) == ()


def test_a_new_collection_gives_an_unread_slot_little_weight_and_keeps_to_it(tmp_path: Path) -> None:
    store = f"edge:{tmp_path / 'store'}"
    with opened(store) as collection:
        (warning,) = collection.populate(documents(24)).warnings
        assert "so it finds little: it has a weight of 0.2 in search.fuse; a model for this language" in warning
        assert collection.handle.search_config.fuse == unfit_fusion(["dense"])
        assert collection.info().fusion["weights"] == {"dense": 0.2}
        assert collection.search("кошка")[0].stages.keys() == {"linear"}
    with opened(store) as again:
        assert again.handle.search_config.fuse == unfit_fusion(["dense"])
        assert again.handle.config is not None
        found = plan(again.handle, again.handle.config)
        assert (found.pending, found.warnings) == (False, (warning,))
        assert again.populate(documents(30)).warnings == ()


def test_what_the_config_says_decides_and_another_encoder_brings_the_usual_default(tmp_path: Path) -> None:
    store = f"edge:{tmp_path / 'store'}"
    with opened(store) as collection:
        collection.populate(documents(24))
        for config, kind in (
            (opened_config(dense="fake-dense"), "dbsf"),
            (opened_config(fuse={"kind": "dbsf"}), "dbsf"),
            (opened_config(retrieve={"lexical": 10}), "dbsf"),
            (opened_config(limit=5), "linear"),
        ):
            assert with_stored_default(config, collection.handle.read()).search.fuse.kind == kind
    searches: list[dict[str, Any]] = [{"fuse": {"kind": "dbsf"}}, {"score_threshold": 0.1}, {"fuse": {"kind": "rrf"}}]
    for search in searches:
        with opened(**search) as collection:
            (warning,) = collection.populate(documents(24)).warnings
            assert "or give the slot little weight: fuse: {kind: linear" in warning
            assert collection.handle.search_config.fuse.kind == search.get("fuse", {"kind": "dbsf"})["kind"]


def test_a_model_that_reads_no_order_of_words_or_tells_texts_hardly_apart_gets_little_weight() -> None:
    for dense, says in (("fake-dense", "reads no order of words"), ("crowded", "tells these texts hardly apart")):
        with opened(dense=dense) as collection:
            (warning,) = collection.populate(ENGLISH).warnings
            assert warning.startswith(f"slot 'dense': its model {says}, as ")
            assert "it has a weight of 0.2 in search.fuse; judged queries may show a better one" in warning
            assert collection.handle.search_config.fuse == unfit_fusion(["dense"])


def test_vectors_of_a_slot_are_looked_at_only_where_they_decide_something() -> None:
    tuned = {"kind": "linear", "normalize": "zscore", "missing": -2.5, "weights": {"dense": 0.7}}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("ordered", {}),
        ("crowded", {"fuse": tuned}),
        ("fake-dense", {"score_threshold": 0.1}),
        ("fake-dense", {"retrieve": {"dense": 9}}),
    ]
    for dense, search in cases:
        with opened(dense=dense, **search) as collection:
            assert collection.populate(ENGLISH).warnings == ()
            assert collection.handle.search_config.fuse.kind == ("linear" if "fuse" in search else "dbsf")
            assert planned(collection) == ()
    with opened(dense="fake-dense") as collection:
        assert collection.populate(ENGLISH[:19]).warnings == (), "so few texts decide nothing"
        assert collection.handle.search_config.fuse.kind == "dbsf"


def test_a_lexical_slot_that_does_not_cut_the_texts_into_words_is_named_and_keeps_its_weight() -> None:
    thai = [Document(str(n), f"โปรแกรมแปลงไฟล์เสียง {n}") for n in range(24)]
    for lexical, more in (
        ({"adapter": "bm25"}, ""),
        ({"adapter": "qdrant-text-index"}, ", or tokenizer: multilingual"),
    ):
        for language, warns in (("english", True), ("thai", False)):
            slots = {"dense": {"adapter": "fake-dense"}, "lexical": {**lexical, "language": language}}
            search = {"fuse": {"kind": "dbsf"}}
            config = parse_config({"store": "memory:", "collection": "c", "slots": slots, "search": search})
            with Collection.open(config, registry=Registry(fakes_plugin)) as collection:
                expected = (
                    "slot 'lexical': 100% of the letters of the first 24 documents are in scripts without spaces, "
                    "which it does not cut into words, so it finds little: set the slot's language to that of the texts"
                    f"{more}"
                )
                warnings = collection.populate(thai).warnings
                assert (expected in warnings) == warns
                assert (expected in planned(collection)) == warns
                assert collection.handle.search_config.fuse.kind == "dbsf"


def test_texts_of_program_code_are_told_and_the_option_for_them_is_named() -> None:
    code = [
        Document(str(n), f"def getUserName(user_id): return users_by_id[user_id].fullName + '{n}'") for n in range(3)
    ]
    for options, says in (({}, True), ({"identifiers": True}, False), ({"compatible_with": "fastembed"}, False)):
        slots = {"lexical": {"adapter": "bm25", **options}}
        config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
        with Collection.open(config, registry=Registry(fakes_plugin)) as collection:
            warnings = collection.populate(code).warnings
            assert any("program code: identifiers: true also finds" in text for text in warnings) == says
            assert any("program code: identifiers: true also finds" in text for text in planned(collection)) == says
    with opened() as collection:
        assert collection.populate([Document("1", "PostgreSQL is a database, and libFoo is not")]).warnings == ()


def opened_config(dense: str = "latin", **search: Any) -> Config:
    slots = {"dense": {"adapter": dense}, "lexical": LEXICAL}
    return parse_config({"store": "memory:", "collection": "c", "slots": slots, "search": search})
