"""`first_fault`: finds what makes external input unfit for JSON, stores and error messages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel

Place: TypeAlias = tuple[str | int, ...]
MAX_DEPTH = 64
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # integers beyond become floats in JSON readers and Qdrant
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and its place in a value. `got` never shows the value, which may be a secret."""

    at: Place
    what: str
    got: str
    expected: str


def first_fault(value: Any, *, limit: int, plain: bool = True) -> Fault | None:
    """The first fault of a value of lists, mappings and pydantic models; None when there is none.

    Args:
        value: may be cyclic or of any depth.
        limit: how many keys and values it may hold.
        plain: refuse other types than JSON's and numbers that are not finite, too.
    """
    for count, (at, inside) in enumerate(_walk((), value)):
        if count > limit:
            return Fault(at[:1], "it holds too many values", f"more than {limit:,}", f"at most {limit:,}")
        if len(at) > MAX_DEPTH:
            return Fault(at[:1], "it is nested too deeply", f"more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}")
        if fault := _fault(at, inside, plain):
            return fault
    return None


def _walk(at: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    """Yield the value, its keys and all nested values with their places. Stops below `MAX_DEPTH`."""
    yield at, value
    if len(at) > MAX_DEPTH:
        return
    if isinstance(value, BaseModel):
        value = {name: item for name, item in value.__dict__.items() if item is not None}
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str | int):
                yield (*at, key), key
                yield from _walk((*at, key), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk((*at, index), item)


def _fault(at: Place, value: object, plain: bool) -> Fault | None:
    if isinstance(value, str):
        if "\0" not in value and is_unicode(value):
            return None
        return Fault(at, "text that cannot be used", "lone surrogates or null characters", "valid Unicode")
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        got, expected = f"a number of {value.bit_length()} bits", f"{_SMALLEST} to {_LARGEST}"
        return Fault(at, "a number beyond 64 bits", got, expected)
    if not plain or isinstance(value, Mapping | list | tuple | BaseModel):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return Fault(at, "a number that is not finite", str(value), "a finite number")
    if not isinstance(value, _PLAIN):
        return Fault(at, "a value that is neither text nor a number", type(value).__name__, "text; put it in quotes")
    return None


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode the text. Lone surrogates, as in JSON's escape `\\ud800`, cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
