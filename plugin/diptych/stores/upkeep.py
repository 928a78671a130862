"""Checks the disk space of an embedded store before many writes, and optimises it afterwards.

A server does its own upkeep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

BLOCK = 512  # bytes of what `st_blocks` counts
_PARTS = ("vector_storage-", "vector_index-")  # folders of a vector within a segment


def optimized(client: QdrantBase, name: str) -> str:
    """Build the indexes that are due; returns a warning if that failed, else "". Returns at once for a server."""
    optimize = getattr(client, "optimize", None)
    if optimize is None or client.get_collection(name).status == models.CollectionStatus.GREEN:
        return ""
    try:
        optimize(name)
    except DiptychError as error:
        return f"all is written, but the collection could not be optimised: {error.what}"
    return ""


def looks_at_disk(client: QdrantBase) -> bool:
    """Whether this is an embedded store, whose disk space is checked before a run."""
    return _folder(client) is not None


def _folder(client: QdrantBase) -> Path | None:
    """The folder of an embedded store; None for every other store."""
    path = getattr(client, "path", None)
    return path if isinstance(path, Path) and hasattr(client, "needs_optimizing") else None


def require_room(client: QdrantBase, needed: int, purpose: str, *, moving: str = "") -> None:
    """Check that the disk of an embedded store has room for a run.

    Args:
        needed: bytes of what it writes.
        moving: a collection that is rewritten meanwhile, so that it takes its space twice.

    Raises:
        StoreFull: it has not.
    """
    root = _folder(client)
    if root is None:
        return
    from diptych_edge.engine.folders import COLLECTIONS, folder_name
    from diptych_edge.health import space, wal

    held = wal.allocated(root / COLLECTIONS / folder_name(moving)) if moving else 0
    do = "free some space on that disk, or use another one, and run again"
    space.require_space(root, space.TO_WRITE + needed + held, purpose, do=do)


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes on the disk: of the whole collection, and by named vector, its graph and quantized copies included."""

    total: int
    vectors: Mapping[str, int]


def disk_use(client: QdrantBase, name: str) -> DiskUse | None:
    """What the files of a collection take; None where they are not on this machine, as a server's are not."""
    root = _folder(client)
    if root is None:
        return None
    from diptych_edge.engine.folders import COLLECTIONS, folder_name

    folder = root / COLLECTIONS / folder_name(name)
    total, vectors = 0, dict[str, int]()
    for above, _, files in os.walk(folder):
        size = sum(_allocated(Path(above) / file) for file in files)
        total += size
        if vector := _vector(Path(above).relative_to(folder)):
            vectors[vector] = vectors.get(vector, 0) + size
    return DiskUse(total, vectors)


def _vector(place: Path) -> str:
    """The vector whose folder this is or lies in; empty for others."""
    names = (part.removeprefix(prefix) for part in place.parts for prefix in _PARTS if part.startswith(prefix))
    return next(names, "")


def _allocated(path: Path) -> int:
    """Bytes that a file takes, holes left out; 0 for one that was removed meanwhile."""
    try:
        facts = path.stat()
    except OSError:
        return 0
    blocks: int | None = getattr(facts, "st_blocks", None)
    return facts.st_size if blocks is None else BLOCK * blocks
