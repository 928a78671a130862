"""A plugin that brings the fakes: `Registry(diptych.testing.fakes_plugin, installed=False)`."""

from __future__ import annotations

from diptych.hookspecs import hookimpl
from diptych.protocols import Kind
from diptych.specs import AdapterSpec

_FAKES: tuple[tuple[str, Kind, str, str], ...] = (
    ("fake-dense", "dense", "FakeDenseEncoder", "hashed words, for tests"),
    ("fake-sparse", "sparse", "FakeSparseEncoder", "word counts, for tests"),
    ("fake-calibrated", "sparse", "FakeCalibratedEncoder", "word counts that need the average length, for tests"),
    ("fake-multivector", "multivector", "FakeMultiVectorEncoder", "a vector for each word, for tests"),
    ("fake-reranker", "reranker", "FakeReranker", "word overlap, for tests"),
)


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    """The adapters `fake-dense`, `fake-sparse`, `fake-calibrated`, `fake-multivector` and `fake-reranker`."""
    return [
        AdapterSpec(name=name, kind=kind, factory=f"diptych.testing.fakes:{fake}", summary=summary)
        for name, kind, fake, summary in _FAKES
    ]
