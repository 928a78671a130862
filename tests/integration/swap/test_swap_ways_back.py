"""Rollback and finish: what they promise when something is missing: points, encoders, or the rest of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, hookimpl
from diptych.specs import AdapterSpec
from diptych.stores.edge import EdgeClient
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document

DENSE: dict[str, Any] = {"adapter": "fake-dense", "dimension": 16}
OTHER: dict[str, Any] = {**DENSE, "seed": 1}
Open: TypeAlias = Callable[..., Collection]
Make: TypeAlias = Callable[..., Any]


def corpus(size: int) -> list[Document]:
    return [Document(str(n), f"word{n % 17} word{n % 23} number{n}") for n in range(size)]


def live(found: Collection) -> dict[str, str]:
    return {name: own.vector for name, own in found.handle.read().live.slots.items()}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[QdrantBase]:
    """An embedded store, which keeps quantization."""
    with EdgeClient(tmp_path / "store") as opened:
        yield opened


class Fragile(FakeDenseEncoder):
    """An encoder behind an API that answers no more, once it is `retired`."""

    retired: ClassVar[bool] = False

    def __init__(self) -> None:
        if Fragile.retired:
            raise ConnectionError("410 Gone")
        super().__init__(dimension=16)


class BringsFragile:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`fragile`."""
        return [AdapterSpec(name="fragile", kind="dense", factory=f"{__name__}:Fragile", summary="may be gone")]


def test_storage_that_changed_along_with_an_encoder_is_taken_back_without_loading_any(
    edge: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "retired", False)
    fragile = {"adapter": "fragile"}
    found = opened(edge, config({"dense": DENSE, "second": fragile}), BringsFragile())
    found.populate(corpus(20))
    stored = {**fragile, "storage": {"quantization": {"kind": "scalar"}}}
    found.apply(config({"dense": OTHER, "second": stored}))
    assert quantization(edge, "second.1") is not None
    monkeypatch.setattr(Fragile, "retired", True)
    assert opened(edge, None, BringsFragile()).rollback().outcome == "rolled back"
    assert quantization(edge, "second.1") is None


def quantization(client: QdrantBase, vector: str) -> Any:
    params = client.get_collection("c").config.params.vectors
    assert isinstance(params, dict)
    return params[vector].quantization_config


# kills


class Killed(BaseException):
    """Ends a rollback as a kill does: nothing catches it."""


@pytest.mark.parametrize("last", [2, 3])
def test_a_rollback_that_is_killed_at_an_update_leaves_the_storage_that_the_metadata_say(
    edge: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    second = {**DENSE, "seed": 5}
    stored = {"on_disk": True, "quantization": {"kind": "scalar"}}
    found = opened(edge, config({"dense": DENSE, "second": second}))
    found.populate(corpus(20))
    found.apply(config({"dense": OTHER, "second": {**second, "storage": stored}}))
    update, done = edge.update_collection, list[int]()

    def update_and_die(*args: Any, **options: Any) -> bool:
        answer = update(*args, **options)
        done.append(1)
        if len(done) == last:
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(edge, "update_collection", update_and_die)
        with pytest.raises(Killed):
            found.rollback()
    later = opened(edge)
    if live(later)["dense"] == "dense.2":
        later.rollback()
    assert later.handle.read().live.slots["second"].storage == {}
    assert quantization(edge, "second.1") is None
