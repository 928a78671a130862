"""What an embedded store needs after many writes, and a server does by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdrant_client import models

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def optimized(client: QdrantBase, name: str) -> str:
    """Build the indexes that are due; a warning when that failed, else empty. A server answers at once."""
    optimize = getattr(client, "optimize", None)
    if optimize is None or client.get_collection(name).status == models.CollectionStatus.GREEN:
        return ""
    try:
        optimize(name)
    except DiptychError as error:
        return f"all is written, but the collection could not be optimised: {error.what}"
    return ""
