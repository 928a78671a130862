"""Points sorted into groups by a payload field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from qdrant_client import models


class Groups:
    """The first `limit` groups of ranked points, each with its first `size` points."""

    def __init__(self, key: str, limit: int, size: int) -> None:
        self._path, self._limit, self._size = key.split("."), limit, size
        self._groups: dict[models.GroupId, list[models.ScoredPoint]] = {}

    @property
    def wanted(self) -> int:
        """How many points to ask for at first."""
        return self._limit * self._size * 2

    @property
    def full(self) -> bool:
        """Whether more points could change nothing."""
        return len(self._groups) >= self._limit and all(len(hits) >= self._size for hits in self._groups.values())

    def fill(self, ranked: Iterable[models.ScoredPoint]) -> None:
        """Sort all points anew, best first."""
        self._groups = {}
        for point in ranked:
            for value in _group_ids(point.payload, self._path):
                self._add(value, point)

    def points(self) -> Iterator[models.ScoredPoint]:
        """All points in the groups."""
        return (point for hits in self._groups.values() for point in hits)

    def result(self) -> list[models.PointGroup]:
        """The groups, best first."""
        return [models.PointGroup.model_construct(id=name, hits=hits) for name, hits in self._groups.items()]

    def _add(self, value: models.GroupId, point: models.ScoredPoint) -> None:
        if value not in self._groups and len(self._groups) < self._limit:
            self._groups[value] = []
        hits = self._groups.get(value)
        if hits is not None and len(hits) < self._size:
            hits.append(point)


def with_wider_prefetches(prefetch: Any, factor: int) -> Any:
    """The prefetches with `factor` times their limits, as a server widens them for groups."""
    if prefetch is None:
        return None
    if isinstance(prefetch, list):
        return [with_wider_prefetches(item, factor) for item in prefetch]
    limit = (10 if prefetch.limit is None else prefetch.limit) * factor
    return prefetch.model_copy(update={"limit": limit, "prefetch": with_wider_prefetches(prefetch.prefetch, factor)})


def _group_ids(payload: Any, path: list[str]) -> list[models.GroupId]:
    """The groups that a point belongs to: none when a value is neither text nor an integer, as on a server."""
    values = list(_values(payload, path))
    if any(type(value) not in (int, str) for value in values):
        return []
    return list(dict.fromkeys(values))


def _values(found: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield from found if isinstance(found, list) else [found]
        return
    name, everywhere = path[0].removesuffix("[]"), path[0].endswith("[]")
    if not isinstance(found, dict) or name not in found:
        return
    inner = found[name]
    for item in inner if everywhere and isinstance(inner, list) else [inner]:
        yield from _values(item, path[1:])
