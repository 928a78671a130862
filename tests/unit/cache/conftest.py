from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych.metadata.models import Generation
from diptych.slots.cache import EmbeddingCache, Namespace

LIMIT = 16_000_000
SetClock = Callable[[float], None]
MakeNamespace = Callable[..., Namespace]


class Clock:
    """Seconds that pass when a test says so."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path, clock: Clock) -> Iterator[EmbeddingCache]:
    with EmbeddingCache(folder, limit=LIMIT, clock=clock) as opened:
        yield opened


@pytest.fixture
def generation() -> Callable[..., Generation]:
    """What a collection says of an encoder."""

    def made(**facts: Any) -> Generation:
        usual = {"number": 1, "vector": "v.1", "kind": "dense", "adapter": "fake", "options": {}}
        return Generation.model_validate({**usual, "space": "weights:1", "numerics": "numpy", **facts})

    return made


@pytest.fixture
def namespace(generation: Callable[..., Generation]) -> MakeNamespace:
    """`namespace(cache, **facts)`: the part of an encoder of which a collection says `facts`, and rightly."""

    def made(cache: EmbeddingCache, **facts: Any) -> Namespace:
        said = generation(**facts)
        found = cache.namespace(said, said.fingerprint)
        assert found is not None
        return found

    return made
