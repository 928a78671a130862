"""Checks of what stages and searches are given: counts, shares, weights and durations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

from diptych.config.section import duration
from diptych.errors import SearchError, brief


def require_count(what: str, value: object, where: str) -> None:
    """Raise SearchError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SearchError(f"{what} is not a positive integer", where=where, got=brief(value), expected="1 or more")


def require_duration(what: str, value: object, where: str) -> float:
    """The seconds of a duration: a positive number, or text such as `300ms` or `30d`.

    Raises:
        SearchError: it is neither.
    """
    try:
        seconds = duration(value)
    except ValueError:
        seconds = None
    if not is_number(seconds) or seconds <= 0:
        expected = "seconds, or text such as 300ms, 2s, 12h, 30d; more than 0"
        do = f"add a unit: {value}ms or {value}s" if isinstance(value, str) and value.isdecimal() else ""
        raise SearchError(f"{what} is not a duration", where=where, got=brief(value), expected=expected, do=do)
    return float(seconds)


def require_share(what: str, value: object, where: str) -> None:
    """Raise SearchError unless `value` is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise SearchError(f"{what} is out of range", where=where, got=brief(value), expected="0 to 1")


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_weights(weights: Mapping[str, float], where: str) -> None:
    """Raise SearchError for a weight that is no finite number of at least 0."""
    for slot, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise SearchError(
                f"the weight of {slot!r} is not usable",
                where=where,
                got=brief(weight),
                expected="a finite number, 0 or more",
            )
