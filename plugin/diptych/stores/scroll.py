"""Reads a collection page by page; ids of its points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_client.client_base import QdrantBase

PointId: TypeAlias = int | str


def pages(
    client: QdrantBase,
    name: str,
    size: int,
    chosen: models.Filter | None = None,
    *,
    start: PointId | None = None,
    read: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    payload: Any = True,
    vectors: Any = False,
    **options: Any,
) -> Iterator[tuple[list[models.Record], PointId | None]]:
    """The points that match `chosen` by id from `start` on, each page with the id at which the next begins.

    Args:
        read: makes each call; it may repeat it.
        options: more of the client's `scroll`.
    """
    scroll = partial(client.scroll, name, chosen, limit=size, with_payload=payload, with_vectors=vectors, **options)
    while True:
        records, following = read(partial(scroll, offset=start))
        start = plain_id(following)
        yield records, start
        if start is None:
            return


@overload
def plain_id(identifier: None) -> None: ...
@overload
def plain_id(identifier: object) -> PointId: ...
def plain_id(identifier: object) -> PointId | None:
    """An id as JSON has it, whatever the client gave: an integer, or a UUID as text."""
    return identifier if isinstance(identifier, int) or identifier is None else str(identifier)
