"""What keeps a process from following a cut-over is told; that the store is away is not, the search says it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.errors import FollowWarning
from diptych.handle.collection_handle import CollectionHandle


@pytest.fixture
def handle(tmp_path: Path, fakes: Registry) -> Iterator[CollectionHandle]:
    raw = {"store": "memory:", "collection": "c", "slots": {"dense": {"adapter": "fake-dense"}}}
    with Collection.open(parse_config(raw), registry=fakes) as collection:
        collection.populate([{"id": "a", "text": "a b"}], report_path=tmp_path / "aside.jsonl")
        yield collection.handle


def looked(handle: CollectionHandle) -> None:
    """Have it look now, and wait until it has."""
    handle._due = 0.0
    handle.now()
    end = time.monotonic() + 120
    while handle._looking.locked():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_error_of_a_model_that_loads_is_told(handle: CollectionHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(metadata: object) -> None:
        raise MemoryError("no room for the weights")

    monkeypatch.setattr(handle, "install", install)
    before = handle.view
    with pytest.warns(FollowWarning, match="'c' cannot be followed: MemoryError: no room for the weights"):
        looked(handle)
    assert handle.view is before


def test_a_store_that_does_not_answer_is_not(handle: CollectionHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(handle, "read", read)
    looked(handle)  # warnings are errors here
