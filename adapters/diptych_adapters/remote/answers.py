"""Numbers out of JSON answers, checked against what was asked."""

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
    found = next((answer[name] for name in names if name in answer), None) if isinstance(answer, Mapping) else answer
    if isinstance(found, list) and (not names or isinstance(answer, Mapping)):
        return found
    expected = f"a list under {' or '.join(names)}" if names else "a list"
    raise endpoint.error("the endpoint's answer has another form", path, got=repr(answer)[:200], expected=expected)


def in_order(endpoint: Endpoint, path: str, found: Sequence[Any], name: str, count: int) -> list[Any]:
    """The values called `name`, sorted by their `index`; as they come when no item has one.

    Raises:
        RemoteError: an item without the value.
        ContractError: not one for each of `count` inputs.
    """
    if not all(isinstance(item, Mapping) and name in item for item in found):
        raise endpoint.error("the endpoint's answer has another form", path, got=repr(found[:2])[:200], expected=name)
    positions = [item.get("index", place) for place, item in enumerate(found)]
    if sorted(positions, key=str) != sorted(range(count), key=str):
        raise ContractError(
            "the endpoint did not answer once for each input",
            where=f"{endpoint.url}{path}",
            got=f"{len(found)} answers, indices {str(positions[:10])[:80]}",
            expected=f"{count}",
        )
    return [item[name] for _, item in sorted(zip(positions, found, strict=True), key=lambda pair: pair[0])]


def matrix(endpoint: Endpoint, path: str, rows: Sequence[Any], count: int, dimension: int | None) -> Floats:
    """Vectors float32 `[count, dimension]`; a null becomes NaN, which the host takes as a bad input.

    Raises:
        RemoteError: a row holds something else than numbers.
        ContractError: another count, rows of different lengths, or another dimension.
    """
    where = f"{endpoint.url}{path}"
    if len(rows) != count:
        raise ContractError("wrong number of vectors", where=where, got=len(rows), expected=f"{count}, one an input")
    widths = {np.size(row) for row in rows}
    if len(widths) > 1 or (dimension is not None and widths - {dimension}):
        expected = f"{dimension}, as declared" if dimension else "one dimension"
        raise ContractError("wrong dimension", where=where, got=f"vectors of {sorted(widths)}", expected=expected)
    try:
        found = np.array(rows, np.float32).reshape(count, -1 if count else dimension or 0)
    except (TypeError, ValueError):
        raise endpoint.error("a vector holds something else than numbers", path, got=repr(rows[0])[:200]) from None
    return found


def batches(texts: Sequence[str], size: int, *, prompt: str = "", longest: int | None = None) -> Iterator[list[str]]:
    """`texts` as they are sent, `size` at once: cut, with the prompt, a blank for an empty one as servers refuse it."""
    for start in range(0, len(texts), size):
        yield [prompt + text[:longest] or " " for text in texts[start : start + size]]
