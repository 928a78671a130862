"""Passages that are points are made anew in a copy and an import, from the documents' vectors, without an encoder."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Document, Registry
from diptych.collection.verify import verify
from diptych.config.models import Config
from diptych.copying import copy_collection, export_collection, import_collection
from diptych.handle.collection_handle import CollectionHandle
from diptych.stores.passage_collections import collection_of

SLOTS = {"dense": {"adapter": "fake-dense", "passages": {"tokens": 24, "overlap": 4, "layout": "points"}}}


def document(number: int, version: int = 0) -> Document:
    chance = random.Random(f"{number} {version}")
    words = [f"w{chance.randrange(60)}" for _ in range(chance.randint(5, 150))]
    return Document(str(number), " ".join(f"{word}." if n % 9 == 8 else word for n, word in enumerate(words)))


def filled(client: QdrantBase, registry: Registry) -> Collection:
    config = Config.model_validate({"collection": "c", "slots": SLOTS})
    collection = Collection(CollectionHandle(client, "c", config, registry))
    collection.populate(document(number) for number in range(40))
    return collection


def hits(collection: Collection) -> list[Any]:
    return [(hit.id, round(hit.score, 4)) for hit in collection.search("w1 w2 w3", limit=30)]


@pytest.mark.parametrize(("here", "there"), [("edge", "memory"), ("memory", "edge"), ("server", "edge")])
def test_a_copy_has_its_own_passages(
    open_client: Callable[..., QdrantBase], registry: Registry, here: str, there: str
) -> None:
    source, target = open_client(here, "one"), open_client(there, "two")
    collection = filled(source, registry)
    copy_collection(source, "c", target, "copy")
    copied = Collection.open(target, "copy", registry=registry)
    assert hits(copied) == hits(collection)
    assert verify(copied.handle, sample=0).passed
    assert target.count(collection_of("copy", "dense.1")) == source.count(collection_of("c", "dense.1"))
    collection.populate(document(number, 1) for number in range(5))
    collection.delete(["7", "8"])
    copy_collection(source, "c", target, "copy", overwrite=True)  # brings what was written since
    assert hits(copied) == hits(collection)
    assert verify(copied.handle, sample=0).passed


def test_an_import_has_its_own_passages(open_client: Callable[..., QdrantBase], registry: Registry) -> None:
    source, target = open_client("edge", "one"), open_client("edge", "two")
    collection = filled(source, registry)
    export_collection(collection.handle, Path("c.jsonl.gz"), vectors=True)
    import_collection(target, Path("c.jsonl.gz"), "copy")
    imported = Collection.open(target, "copy", registry=registry)
    assert hits(imported) == hits(collection)
    assert verify(imported.handle, sample=0).passed
