"""Contract classes in a line each: `TestBm25 = contract(SparseEncoderContract, encoder=lambda cls: Bm25())`."""

from __future__ import annotations

from typing import Any, Literal

import pytest


def contract(base: type[Any], *, scope: Literal["class", "function"] = "class", **members: Any) -> type[Any]:
    """A subclass of a contract: functions of the class and of fixtures become fixtures, all else is an attribute."""
    made = dict(members)
    for name, own in members.items():
        if callable(own):
            method: Any = classmethod(own)
            made[name] = pytest.fixture(scope=scope)(method)
    return type(base.__name__, (base,), made)
