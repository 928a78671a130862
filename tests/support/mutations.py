"""Seeded damage to JSON-like values: what a hostile or careless author may write in place of a right one."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

TEXTS = [
    "", " ", "x", "null", "-1", "1e999", "\0", "a\0b", "\ud800", "x\udfff", "\u202etxt", "é" * 130, "a" * 300,
    "a" * 20_000, "..", "../..", "/etc/passwd", "C:\\x", "${HOME}", "${NOPE}", "${", "%s%n", "{}", "[", "a[", "a[]",
    "a..b", ".", "a.b.c", "2026-01-01", "2026-99-99T99:99", "550e8400-e29b-41d4-a716-446655440000", "edge:", "memory:",
    "http://[", "\x1b[2J", "*", "&a",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**70, 10**400, 16**5000,
    0.0, -0.0, 0.5, 1.5, 1e39, 1e308, 5e-324, math.nan, math.inf, -math.inf,
]  # fmt: skip


DEEPEST = 8  # where damage is done


def nested(depth: int, *, mapping: bool = False) -> Any:
    """A list in a list, or a mapping in a mapping, and so on."""
    value: Any = "x"
    for _ in range(depth):
        value = {"must": value} if mapping else [value]
    return value


def odd(chance: random.Random) -> Any:
    """A value of any kind."""
    kind = chance.randrange(10)
    if kind < 4:
        return chance.choice(TEXTS)
    if kind < 7:
        return chance.choice(NUMBERS)
    return chance.choice([
        None, True, False, [], {}, [None], [[]], {"": None}, ["a", 1], [1.5, math.nan], {"a": {"b": [1]}}, ["x"] * 3000,
        nested(30), nested(2000), nested(30, mapping=True), nested(2000, mapping=True),
    ])  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is inside of a value."""
    holds = isinstance(value, dict | list) and len(at) < DEEPEST
    inside = (value.items() if isinstance(value, dict) else enumerate(value)) if holds else ()
    return [path for key, item in inside for path in ((*at, key), *places(item, (*at, key)))]


def mutated(value: Any, chance: random.Random, *, times: int | None = None) -> Any:
    """A copy with some of its inside replaced, removed, renamed, doubled or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(times or chance.choice([1, 1, 1, 2, 3])):
        found = places(value)
        if not found:
            return odd(chance)
        *above, key = chance.choice(found)
        holder = value
        for step in above:
            holder = holder[step]
        _damage(holder, key, chance)
    return value


def _damage(holder: Any, key: Any, chance: random.Random) -> None:
    kind = chance.randrange(6)
    if kind <= 1:
        holder[key] = odd(chance)
    elif kind == 2:
        del holder[key]
    elif kind == 3:
        holder[key] = chance.choice([[holder[key]], {"x": holder[key]}, [holder[key]] * 50, "x"])
    elif isinstance(holder, dict):
        name = chance.choice([*TEXTS, *holder, f"{key}s", str(key).upper()])
        holder[name] = holder.pop(key) if kind == 4 else holder[key]
    else:
        holder.insert(chance.randrange(len(holder) + 1), odd(chance))
