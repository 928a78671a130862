"""Hostile JSON for servers: bodies that are almost right, with values that nobody expects, drawn by a seed."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Callable
from typing import Any

from mutations import NUMBERS, TEXTS


def text_of(body: Any) -> bytes:
    """The body as JSON, with numbers of more digits than Python writes unasked."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(body).encode()
    except RecursionError:  # nested deeper than Python writes
        return b'{"must":' * 2000 + b"1" + b"}" * 2000
    finally:
        sys.set_int_max_str_digits(most)


def damaged(drawn: random.Random, text: bytes) -> bytes:
    """The text, cut or with bytes that do not belong there."""
    place = drawn.randint(0, len(text))
    kinds: list[Callable[[], bytes]] = [
        lambda: text[:place],
        lambda: text[:place] + bytes([drawn.randint(0, 255)]) + text[place:],
        lambda: text[:place] + b"\x00" + text[place:],
        lambda: b"\xef\xbb\xbf" + text,
        lambda: text.decode().encode("utf-16"),
        lambda: text + text,
        lambda: b"[" * drawn.choice((10, 1000, 100_000)),
        lambda: b'{"a":' * drawn.choice((10, 1000, 50_000)),
        lambda: b"",
    ]
    return drawn.choice(kinds)()


def condition(drawn: random.Random, depth: int = 0) -> Any:
    """A condition of a filter, right or almost."""

    def any_of(*right: Any) -> Any:
        return copy.deepcopy(drawn.choice(right)) if drawn.random() < 0.7 else drawn.choice([*TEXTS, *NUMBERS])

    def point() -> Any:
        return {"lon": any_of(0, 13.4, 181), "lat": any_of(0, 52.5, 91)}

    bounds = ("gt", "gte", "lt", "lte")
    key = any_of("letter", "text", "a.b", "metadata.x", "a[", "a[].b", "")
    kinds: list[Callable[[], Any]] = [
        lambda: {"key": key, "match": {drawn.choice(("value", "text", "phrase", "prefix")): any_of("a", 1, True)}},
        lambda: {"key": key, "match": {drawn.choice(("any", "except")): any_of(["a", "b"], [1, 2], [])}},
        lambda: {
            "key": key,
            "range": {drawn.choice(bounds): any_of(1, 2.5, "2020-01-01", "never")},
        },
        lambda: {"key": key, "geo_radius": {"center": point(), "radius": any_of(1, -1, 0)}},
        lambda: {"key": key, "geo_bounding_box": {"top_left": point(), "bottom_right": point()}},
        lambda: {"key": key, "geo_polygon": {"exterior": {"points": [point() for _ in range(drawn.randint(0, 5))]}}},
        lambda: {"key": key, "values_count": {drawn.choice(("gt", "lt")): any_of(0, 3)}},
        lambda: {"key": key, "is_empty": any_of(True, False)},
        lambda: {"is_empty": {"key": key}},
        lambda: {"is_null": {"key": key}},
        lambda: {"has_id": any_of([1], ["00000000-0000-0000-0000-000000000000"], ["zz"], [])},
        lambda: {"has_vector": any_of("dense", "dense.1", "none")},
        lambda: {"nested": {"key": key, "filter": filter_of(drawn, depth + 1)}},
        lambda: {"slice": {"total": any_of(2, 0), "index": any_of(0, 5)}},
        lambda: filter_of(drawn, depth + 1),
    ]
    return drawn.choice(kinds)()


def filter_of(drawn: random.Random, depth: int = 0) -> Any:
    """A filter, right or almost."""
    found: dict[str, Any] = {}
    for name in drawn.sample(("must", "should", "must_not", "min_should"), drawn.randint(0, 2)):
        conditions = [condition(drawn, depth) for _ in range(drawn.randint(0, 3 if depth < 3 else 0))]
        found[name] = (
            conditions if name != "min_should" else {"conditions": conditions, "min_count": drawn.randint(-1, 3)}
        )
    return found
