"""Reads numbers from JSON answers, and checks them against the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from diptych.errors import ContractError
from diptych.types import Floats
from diptych_adapters.remote.endpoint import Endpoint


def items(endpoint: Endpoint, path: str, answer: Any, *names: str) -> list[Any]:
    """The list in `answer`, which is the list itself when there are no `names`, else under the first name it has.

    Raises:
        RemoteError: there is no such list.
    """
    entries = next((answer[name] for name in names if name in answer), None) if isinstance(answer, Mapping) else answer
    if isinstance(entries, list) and (not names or isinstance(answer, Mapping)):
        return entries
    expected = f"a list under {' or '.join(names)}" if names else "a list"
    raise endpoint.error("the endpoint's answer is malformed", path, got=as_text(answer), expected=expected)


def in_order(endpoint: Endpoint, path: str, entries: Sequence[Any], name: str, count: int) -> list[Any]:
    """The values called `name`, sorted by their `index`; as they come when no item has one.

    Raises:
        RemoteError: an item without the value.
        ContractError: not one for each of `count` inputs.
    """
    if not all(isinstance(item, Mapping) and name in item for item in entries):
        raise endpoint.error("the endpoint's answer is malformed", path, got=as_text(entries), expected=name)
    positions = [item.get("index", position) for position, item in enumerate(entries)]
    if sorted(positions, key=str) != sorted(range(count), key=str):
        raise ContractError(
            "the endpoint did not answer once for each input",
            where=f"{endpoint.url}{path}",
            got=f"{len(entries)} answers, indices {str(positions[:10])[:80]}",
            expected=f"{count}",
        )
    return [item[name] for _, item in sorted(zip(positions, entries, strict=True), key=lambda pair: pair[0])]


def matrix(endpoint: Endpoint, path: str, rows: Sequence[Any], count: int, dimension: int | None) -> Floats:
    """Vectors float32 `[count, dimension]`; a null becomes NaN, which the host takes as a bad input.

    Raises:
        RemoteError: a row holds something else than numbers.
        ContractError: another count, rows of different lengths, or another dimension.
    """
    where = f"{endpoint.url}{path}"
    if len(rows) != count:
        raise ContractError("wrong number of vectors", where=where, got=len(rows), expected=f"{count}, one per input")
    widths = {len(row) if isinstance(row, list | np.ndarray) else 1 for row in rows}
    if len(widths) > 1 or (dimension is not None and widths - {dimension}):
        expected = f"{dimension}, as declared" if dimension else "one dimension"
        got = f"vectors of {str(sorted(widths)[:10])[:80]}"
        raise ContractError("wrong dimension", where=where, got=got, expected=expected)
    vectors = _numbers(rows)
    if vectors is None or vectors.ndim > 2 or vectors.size != count * (widths or {0}).pop():
        got = next((row for row in rows if _numbers(row) is None), rows[0])
        raise endpoint.error("a vector holds values that are not numbers", path, got=as_text(got))
    return vectors.reshape(count, -1 if count else dimension or 0)


def _numbers(rows: Any) -> Floats | None:
    """The numbers as float32; None when something is none. A null becomes NaN, a number beyond float32 infinite."""
    try:
        numbers = np.array(rows)
        if numbers.dtype == object:  # nulls, or integers of any length
            numbers = np.array(rows, np.float64) if _are_numbers(numbers) else numbers
        if numbers.dtype.kind not in "fiu" and numbers.size:
            return None
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        return None


def _are_numbers(numbers: np.ndarray[Any, Any]) -> bool:
    return all(value is None or type(value) in (int, float) for value in numbers.flat)


def as_text(value: Any) -> str:
    """The value as errors show it."""
    try:
        return repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def batches(texts: Sequence[str], size: int, *, prompt: str = "", longest: int | None = None) -> Iterator[list[str]]:
    """`texts` as they are sent, `size` at once: cut, with the prompt, a blank for an empty one as servers refuse it."""
    for start in range(0, len(texts), size):
        yield [prompt + text[:longest] or " " for text in texts[start : start + size]]
