"""Reads a collection page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def pages(scroll: Callable[[Any], tuple[list[T], Any]]) -> Iterator[list[T]]:
    """All pages of a scroll; `scroll` reads the page at an offset, None for the first, and the offset of the next."""
    offset: Any = None
    while True:
        records, offset = scroll(offset)
        yield records
        if offset is None:
            return
