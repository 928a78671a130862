"""For authors of adapters and for tests: deterministic fakes, and checks that an object keeps its contract."""

from __future__ import annotations

from diptych.testing import fakes_plugin
from diptych.testing.fakes import (
    FakeCalibratedEncoder,
    FakeDenseEncoder,
    FakeMultiVectorEncoder,
    FakeReranker,
    FakeSparseEncoder,
)
from diptych.testing.words import Call, FakeFailure

__all__ = [
    "Call",
    "FakeCalibratedEncoder",
    "FakeDenseEncoder",
    "FakeFailure",
    "FakeMultiVectorEncoder",
    "FakeReranker",
    "FakeSparseEncoder",
    "fakes_plugin",
]
