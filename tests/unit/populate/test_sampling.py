"""Encoders that want to see texts are shown them before they serve, wherever they are made."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from qdrant_client import QdrantClient

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config import Config
from diptych.config.models import CacheConfig, SlotConfig
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import Reading
from diptych.populate.ray_engine import Worker, WorkerJob
from diptych.populate.validate import Item
from diptych.protocols import Sampling
from diptych.slots.encode import CollectionTexts
from diptych.slots.slot import Slot
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document

SEEN: list[list[str]] = []
CONFIG = Config.model_validate(
    {"store": "memory:", "collection": "c", "slots": {"dense": {"adapter": "curious", "dimension": 8}}}
)


class Curious(FakeDenseEncoder):
    """A fake that wants to see three texts, and keeps what it was shown."""

    sample = 3

    def look_at(self, texts: Sequence[str]) -> None:
        SEEN.append(list(texts))

    def encode_document(self, inputs: Sequence[str]) -> Any:
        assert SEEN, "asked for vectors before it saw a text"
        return super().encode_document(inputs)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = f"{Curious.__module__}:Curious"
        return [AdapterSpec(name="curious", kind="dense", factory=factory, summary="wants to see texts")]


@functools.cache
def registry() -> Registry:
    return Registry(Plugin(), installed=False)


def documents(count: int) -> list[Document]:
    return [Document(f"{n:02}", f"text {n}", title="a title") for n in range(count)]


def opened(client: QdrantClient) -> Collection:
    return Collection(CollectionHandle(client, "c", CONFIG, registry()))


def test_a_new_collection_shows_its_first_documents_and_a_later_handle_those_that_it_holds() -> None:
    SEEN.clear()
    assert isinstance(Curious(dimension=8), Sampling)
    client = QdrantClient(":memory:")
    opened(client).populate(documents(5))
    assert SEEN == [["a title text 0", "a title text 1", "a title text 2"]]
    again = opened(client)
    again.search("text")
    held = CollectionTexts(client, "c")(3, again.handle.view.reading)
    assert len(held) == 3
    assert SEEN[1:] == [held]


def test_a_worker_elsewhere_shows_the_sample_that_it_is_given() -> None:
    SEEN[:] = [["so that a generation can be described"]]
    slot = Slot("dense", SlotConfig(adapter="curious", options={"dimension": 8}), None, registry())
    made = slot.describe(number=1, vector="dense.1", reading=Reading(), statistics=None)
    SEEN.clear()
    slots = (("dense", slot.config, made),)
    job = WorkerJob(registry, CacheConfig(enabled=False), slots, sample=tuple(documents(4)))
    piece = [Item(document, "hash", document.text, n, n) for n, document in enumerate(documents(4))]
    encoded = Worker(job).encode(piece)
    assert SEEN == [["a title text 0", "a title text 1", "a title text 2"]]
    assert len(encoded.outcomes["dense.1"]) == 4
