"""`disk_use`: how much of the disk a collection of an embedded store takes, in all and for each vector."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

BLOCK = 512  # bytes of what `st_blocks` counts
_PARTS = ("vector_storage-", "vector_index-")  # folders of a vector within a segment


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes on the disk: of the whole collection, and by named vector, its graph and quantized copies included."""

    total: int
    vectors: Mapping[str, int]


def disk_use(client: QdrantBase, name: str) -> DiskUse | None:
    """What the files of a collection take; None where they are not on this machine, as a server's are not."""
    from diptych.stores.edge import EdgeClient, SharedEdgeClient
    from qdrant_edge_client.engine.folders import COLLECTIONS, folder_name

    if not isinstance(client, EdgeClient | SharedEdgeClient):
        return None
    folder = client.path / COLLECTIONS / folder_name(name)
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
