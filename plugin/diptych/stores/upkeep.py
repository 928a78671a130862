"""What an embedded store needs before and after many writes; a server does this by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


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
    return isinstance(getattr(client, "path", None), Path) and hasattr(client, "needs_optimizing")


def require_room(client: QdrantBase, needed: int, purpose: str, *, moving: str = "") -> None:
    """Check that the disk of an embedded store has room for a run.

    Args:
        needed: bytes of what it writes.
        moving: a collection that it writes anew meanwhile, so that it is there twice.

    Raises:
        StoreFull: it has not.
    """
    root = getattr(client, "path", None)
    if not isinstance(root, Path) or not looks_at_disk(client):
        return
    from qdrant_edge_client.engine.folders import COLLECTIONS, folder_name
    from qdrant_edge_client.health import space, wal

    held = wal.allocated(root / COLLECTIONS / folder_name(moving)) if moving else 0
    do = "free some space on that disk, or use another one, and run again"
    space.require_space(root, space.TO_WRITE + needed + held, purpose, do=do)
