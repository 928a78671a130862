"""Reads a collection page by page; ids of its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar, overload

PointId: TypeAlias = int | str
T = TypeVar("T")


def pages(scroll: Callable[[Any], tuple[list[T], Any]]) -> Iterator[list[T]]:
    """All pages of a scroll; `scroll` reads the page at an offset, None for the first, and the offset of the next."""
    offset: Any = None
    while True:
        records, offset = scroll(offset)
        yield records
        if offset is None:
            return


@overload
def plain_id(identifier: None) -> None: ...
@overload
def plain_id(identifier: object) -> PointId: ...
def plain_id(identifier: object) -> PointId | None:
    """An id as JSON has it, whatever the client gave: an integer, or a UUID as text."""
    return identifier if isinstance(identifier, int) or identifier is None else str(identifier)
