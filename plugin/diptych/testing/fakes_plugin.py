"""A plugin that brings the fakes: `Registry(diptych.testing.fakes_plugin, installed=False)`."""

from __future__ import annotations

from diptych.hookspecs import hookimpl
from diptych.specs import AdapterSpec

_FAKES = "diptych.testing.fakes"


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """The adapters `fake-dense`, `fake-sparse`, `fake-calibrated`, `fake-multivector` and `fake-reranker`."""
    return [
        AdapterSpec(
            name="fake-dense", kind="dense", factory=f"{_FAKES}:FakeDenseEncoder", summary="hashed words, for tests"
        ),
        AdapterSpec(
            name="fake-sparse", kind="sparse", factory=f"{_FAKES}:FakeSparseEncoder", summary="word counts, for tests"
        ),
        AdapterSpec(
            name="fake-calibrated",
            kind="sparse",
            factory=f"{_FAKES}:FakeCalibratedEncoder",
            summary="word counts that need the corpus's average length, for tests",
        ),
        AdapterSpec(
            name="fake-multivector",
            kind="multivector",
            factory=f"{_FAKES}:FakeMultiVectorEncoder",
            summary="a vector for each word, for tests",
        ),
        AdapterSpec(
            name="fake-reranker", kind="reranker", factory=f"{_FAKES}:FakeReranker", summary="word overlap, for tests"
        ),
    ]
