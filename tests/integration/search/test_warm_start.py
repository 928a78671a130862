"""A warm collection has loaded, checked and tried all that the first query needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from diptych.collection.collection import Collection
from diptych.config.models import Config
from diptych.errors import CollectionNotFound, FingerprintMismatch
from diptych.registry import Registry
from diptych.slots.canaries import TEXTS
from diptych.types import Document

Open = Callable[[Mapping[str, Any]], Collection]
CONFIG: dict[str, Any] = {
    "slots": {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated"}},
    "search": {"rerank": [{"adapter": "fake-reranker", "candidates": 20}]},
}


def opened_again(path: Path, registry: Registry, documents: list[Document]) -> Collection:
    """A populated collection, opened by a process that has loaded nothing yet."""
    config = {**CONFIG, "store": f"edge:{path}", "collection": "c"}
    with Collection.open(Config.model_validate(config), registry=registry) as collection:
        collection.populate(documents)
    return Collection.open(Config.model_validate(config), registry=registry)


def test_all_that_a_query_needs_is_loaded_and_was_used(
    fakes: Registry, documents: list[Document], tmp_path: Path
) -> None:
    with opened_again(tmp_path, fakes, documents) as collection:
        slots = collection.handle.slots
        assert not any(slot.loaded for slot in slots.values())
        collection.warm()
        assert all(slot.loaded for slot in slots.values())
        assert collection.handle.view.reranker("fake-reranker", {}).count > 0  # type: ignore[attr-defined]
        sizes = [len(call.inputs) for call in slots["dense"].encoder.calls if call.side == "query"]
        assert {1, 4} <= set(sizes)


def test_its_texts_are_not_remembered(fakes: Registry, documents: list[Document], tmp_path: Path) -> None:
    with opened_again(tmp_path, fakes, documents) as collection:
        collection.warm()
        encoder = collection.handle.slot("dense").encoder
        before = encoder.count
        collection.search(TEXTS[0])
        assert encoder.count == before + 1


def test_what_every_query_would_say_is_said_at_the_start(
    opened: Open, fakes: Registry, documents: list[Document], tmp_path: Path
) -> None:
    with pytest.raises(CollectionNotFound):
        opened(CONFIG).warm()
    opened_again(tmp_path, fakes, documents).close()
    other = {"adapter": "fake-dense", "seed": 5}
    config = {**CONFIG, "slots": {**CONFIG["slots"], "dense": other}, "store": f"edge:{tmp_path}", "collection": "c"}
    with pytest.raises(FingerprintMismatch), Collection.open(Config.model_validate(config), registry=fakes) as found:
        found.warm()
