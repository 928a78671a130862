"""What is wrong with a value from outside, and the words for it in errors.

`first_fault` finds what makes a value unfit for JSON, stores and error messages. The rest puts into words what pydantic
expected, and names the known name that is nearest to a misspelt one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from pydantic import BaseModel

LONGEST = 80  # characters of a value that an error shows
_NUMBER, _TRUTH, _MAPPING = "a number", "true or false", "a mapping: key: value lines"
_SIZE = "a size: 500MB, 2GB, 1.5GiB"
_PLAIN = {
    "missing": "a value",
    "extra_forbidden": "no such key",
    "unexpected_keyword_argument": "no such key",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": "text",
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "dataclass_exact_type": _MAPPING,
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "null",
    "path_type": "a path",
    "byte_size": _SIZE,
    "byte_size_unit": _SIZE,
}
_FILLED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda c: f"at least {c['ge']:g}",
    "greater_than": lambda c: f"more than {c['gt']:g}",
    "less_than_equal": lambda c: f"at most {c['le']:g}",
    "less_than": lambda c: f"less than {c['lt']:g}",
    "literal_error": lambda c: str(c["expected"]),
    "enum": lambda c: str(c["expected"]),
    "too_short": lambda c: f"at least {_counted(c['min_length'], 'item')}",
    "too_long": lambda c: f"at most {_counted(c['max_length'], 'item')}",
    "string_too_short": lambda c: f"at least {_counted(c['min_length'], 'character')}",
    "string_too_long": lambda c: f"at most {_counted(c['max_length'], 'character')}",
    "string_pattern_mismatch": lambda c: f"text that matches {c['pattern']}",
    "json_invalid": lambda c: f"JSON: {c['error']}",
    "value_error": lambda c: str(c["error"]),
    "assertion_error": lambda c: str(c["error"]),
}


def nearest(name: object, known: Iterable[str]) -> str:
    """`did you mean 'retrieve'?`, or nothing when no known name is near."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {matches[0]!r}?" if matches else ""


def expectation(detail: Mapping[str, Any], *, mapping: str = _MAPPING) -> str:
    """What one of pydantic's errors expected: `at least 1`, `a whole number`; `mapping` is what a mapping is called."""
    kind = str(detail["type"])
    if _PLAIN.get(kind) == _MAPPING:
        return mapping
    if kind in _FILLED and "ctx" in detail:
        return _FILLED[kind](detail["ctx"])
    return _PLAIN.get(kind) or str(detail["msg"]).removeprefix("Input should be ")


def remedy(detail: Mapping[str, Any]) -> str:
    """What to do about one of pydantic's errors, for values that YAML reads as a number, a date or a truth value."""
    is_text_wanted = str(detail["type"]) == "string_type" and not isinstance(detail["input"], Mapping | list | None)
    return "put it in quotes" if is_text_wanted else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def error_path(detail: Mapping[str, Any]) -> str:
    """Where one of pydantic's errors is, `must.0.match`, without the names that it gives to unions."""
    return ".".join(part[:60] for part in map(str, detail["loc"]) if "[" not in part)[:300]


def actual_value(detail: Mapping[str, Any]) -> str:
    """What one of pydantic's errors found there: `nothing`, or the value."""
    return "nothing" if detail["type"] == "missing" else shown(detail["input"])


def shown(value: object) -> str:
    """The beginning of a value's repr. Of a large one only the beginning is looked at."""
    text = value[:LONGEST] if isinstance(value, str | bytes) else value
    if isinstance(text, Sized) and not isinstance(text, str | bytes) and _is_large(text):
        return f"{type(value).__name__} of {len(text):,}"
    try:
        return repr(text)[:LONGEST]
    except (RecursionError, ValueError):  # nested without end, or a number of more digits than Python writes
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__


def _is_large(value: object) -> bool:
    """Whether it holds more than a hundred values, or long ones."""
    nodes, count = [value], 0
    while nodes and count <= 100:
        node = nodes.pop()
        count += 1
        if isinstance(node, Mapping):
            nodes += [*islice(node, 100), *islice(node.values(), 100)]
        elif isinstance(node, list | tuple | set | frozenset):
            nodes += islice(node, 100)
        elif isinstance(node, str | bytes):
            count += len(node) // 1000
    return count > 100


Place: TypeAlias = tuple[str | int, ...]
MAX_DEPTH = 64
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # integers beyond become floats in JSON readers and Qdrant
_SCALARS = (str, int, float, bool, type(None))


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
    if not isinstance(value, _SCALARS):
        return Fault(at, "a value that is neither text nor a number", type(value).__name__, "text; put it in quotes")
    return None


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode the text. Lone surrogates, as in JSON's escape `\\ud800`, cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
