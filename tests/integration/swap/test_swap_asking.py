"""Queries by another encoder than the documents, switched ahead of a back-fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient

from diptych.errors import SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.populate import populate
from diptych.registry import Registry
from diptych.search import search
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions, Judged, apply, plan, rollback, status
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats
from spaces import WIDTH, Turned, config, corpus, judged


class Blurred(FakeDenseEncoder):
    """An old encoder whose queries are half noise, so that a new one's can do better on its documents."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__(dimension=WIDTH)
        self._noise = noise
        self.fingerprint = type(self.fingerprint)(f"{self.fingerprint.space} noise {noise}", "numpy")

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        clear = super().encode_query(inputs)
        blur = np.zeros_like(clear)
        for row, text in enumerate(inputs):
            seed = int.from_bytes(text.encode()[:8].ljust(8, b"_"), "little")
            blur[row] = np.random.default_rng(seed).normal(size=WIDTH)
        mixed = clear + self._noise * blur / np.linalg.norm(blur, axis=1, keepdims=True)
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


class NoiseOptions(BaseModel):
    noise: float = 0.0


class Adapters:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [
            AdapterSpec(name="turned", kind="dense", factory=f"{Turned.__module__}:Turned", summary="Turned."),
            AdapterSpec(
                name="blurred",
                kind="dense",
                factory=f"{__name__}:Blurred",
                options=NoiseOptions,
                summary="Blurred.",
            ),
        ]


@pytest.fixture
def registry() -> Registry:
    return Registry(Adapters(), installed=False)


def test_queries_switch_at_once_where_judgements_show_that_it_helps(registry: Registry) -> None:
    client, documents = QdrantClient(":memory:"), corpus(300)
    handle = CollectionHandle(client, "c", config("blurred", noise=4.0), registry)
    populate(handle, documents)
    wanted = config("blurred", noise=0.0)
    options = ApplyOptions(switch_queries=True, cut_over=False, judged=judged(documents))
    report = apply(handle, wanted, options)
    assert not report.warnings
    assert report.asking == {"dense": status(handle).vectors[0].asking}
    assert handle.read().live.slots["dense"].vector == "dense.1", "documents are asked for in the old vectors still"
    asking = status(handle).vectors[0].asking
    assert "with queries by the new one" in asking
    assert handle.read().history[-1].what == "switched queries"
    exact = FakeDenseEncoder(dimension=WIDTH)
    scores = exact.encode_query([documents[5]["text"]]) @ exact.encode_document([d["text"] for d in documents]).T
    best = search(handle, [documents[5]["text"]])[0][0]
    assert best.score == pytest.approx(float(scores.max()), abs=1e-5)
    assert rollback(handle).outcome == "abandoned"
    assert status(handle).vectors[0].asking == ""


def test_queries_stay_where_switching_was_not_or_cannot_be_shown_to_help(registry: Registry) -> None:
    client, documents = QdrantClient(":memory:"), corpus(300)
    handle = CollectionHandle(client, "c", config("blurred"), registry)
    populate(handle, documents)
    with pytest.raises(SwapError, match=r"(?s)only where judgements show.*evaluate\.qrels"):
        apply(handle, config("turned"), ApplyOptions(switch_queries=True))
    options = ApplyOptions(switch_queries=True, cut_over=False, judged=judged(documents))
    report = apply(handle, config("turned"), options)
    assert any("the old encoder encodes queries until the cut-over" in warning for warning in report.warnings)
    assert report.asking == {}
    assert status(handle).vectors[0].asking == ""


def test_a_plan_says_how_the_new_queries_do_on_the_old_vectors(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, documents = QdrantClient(":memory:"), corpus(300)
    handle = CollectionHandle(client, "c", config("blurred", noise=4.0), registry)
    populate(handle, documents)
    monkeypatch.setattr(Judged, "of", classmethod(lambda cls, section: judged(documents)))
    (step,) = plan(handle, config("blurred", noise=0.0)).steps
    assert step.query_side is not None
    assert step.query_side.low > 0
    assert handle.read().swap is None, "planning changes nothing"
