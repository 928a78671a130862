"""One small corpus in every store."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import named_server
from diptych.collection.collection import Collection
from diptych.config.models import Config
from diptych.registry import Registry
from diptych.types import Document

WORDS = [f"word{n}" for n in range(70)]
SLOTS = {
    "dense": {"adapter": "fake-dense"},
    "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    "late": {"adapter": "fake-multivector"},
}
Open: TypeAlias = Callable[..., Collection]


def corpus() -> list[Document]:
    """A hundred documents without equal scores: their lengths are primes, and most of their words rare."""
    random = np.random.default_rng(7)
    lengths = [n for n in range(7, 600) if all(n % factor for factor in range(2, n))][:100]
    rare = [f"rare{n}" for n in range(3000)]

    def one_of(words: list[str]) -> str:
        return words[random.integers(0, len(words))]  # as `choice`, which makes an array of all words each time

    return [
        Document(
            f"d{n}",
            " ".join(one_of(WORDS if random.random() < 0.3 else rare) for _ in range(lengths[n])),
            metadata={
                "parity": "odd" if n % 2 else "even",
                "n": n,
                "tags": [f"t{n % 3}", f"u{n % 5}"],
                "at": {"x": n % 4},
            },
        )
        for n in range(100)
    ]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, Any]]:
    """What a config says of a fresh store."""
    if named_server.STORE == "server":
        # Shards count the IDF of each, and diversify each one's candidates. Replicas differ in the order of equal
        # scores, and a node that has none asks any of them.
        found = named_server.settings(shards=1, replicas=len(named_server.urls()))
        return lambda: found
    return lambda: {"store": f"edge:{tmp_path_factory.mktemp('search')}"}


@pytest.fixture(scope="session")
def opened(store: Callable[[], dict[str, Any]], fakes: Registry) -> Iterator[Open]:
    """Opens an empty collection from a config; all are deleted and closed in the end."""
    with ExitStack() as stack:

        def make(config: Mapping[str, Any], registry: Registry = fakes) -> Collection:
            name = f"search-{uuid.uuid4().hex[:8]}"
            found = Config.model_validate({**store(), "collection": name, **config})
            collection = stack.enter_context(Collection.open(found, registry=registry))
            stack.callback(collection.client.delete_collection, name)
            return collection

        yield make


@pytest.fixture(scope="session")
def filled(opened: Open, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The corpus with a dense, a sparse and a multi-vector slot."""
    # By ranks, so that the last digits of scores, which local mode computes otherwise from call to call, do not count.
    search = {"retrieve": {"dense": 100, "lexical": 100, "late": 100}, "fuse": {"kind": "rrf"}}
    collection = opened({"slots": SLOTS, "search": search})
    fill(collection, tmp_path_factory.mktemp("reports") / "aside.jsonl")
    return collection


def fill(collection: Collection, report: Path) -> None:
    assert collection.populate(corpus(), report_path=report).new == 100


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """What `filled` holds."""
    return corpus()


@pytest.fixture(scope="session")
def queries() -> list[str]:
    """Queries with one to five words of the documents, and some that none of them has."""
    found = ["word1 word2 word3", "word4 word10 word11 rare7", "word9", "word30 word31 word32 word33 word1"]
    return [f"{words} other{n} else{n} more{n} new{n}" for n, words in enumerate(found)]
