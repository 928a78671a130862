"""The conformance kit for adapter authors: contract classes for pytest, the checks behind them, deterministic fakes.

Begin with `contracts`: subclass one, override its fixture, run pytest. `checks` can also be called without pytest;
`fakes` has encoders for tests that need no model. Only the contract classes import pytest, when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diptych.testing import checks, fakes_plugin
from diptych.testing.checks.conditions import ConformanceFailure
from diptych.testing.fakes import (
    Call,
    FakeCalibratedEncoder,
    FakeDenseEncoder,
    FakeFailure,
    FakeMultiVectorEncoder,
    FakeReranker,
    FakeSparseEncoder,
)

if TYPE_CHECKING:
    from diptych.testing.contracts import (
        DenseEncoderContract,
        MediaEncoderContract,
        MultiVectorEncoderContract,
        RerankerContract,
        SparseEncoderContract,
        TextIndexContract,
    )

__all__ = [
    "Call",
    "ConformanceFailure",
    "DenseEncoderContract",
    "FakeCalibratedEncoder",
    "FakeDenseEncoder",
    "FakeFailure",
    "FakeMultiVectorEncoder",
    "FakeReranker",
    "FakeSparseEncoder",
    "MediaEncoderContract",
    "MultiVectorEncoderContract",
    "RerankerContract",
    "SparseEncoderContract",
    "TextIndexContract",
    "checks",
    "fakes_plugin",
]


def __getattr__(name: str) -> Any:
    """Import the contract classes when first used: they need pytest, and the fakes must work without it."""
    if name.endswith("Contract") and name in __all__:
        return getattr(importlib.import_module("diptych.testing.contracts"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
