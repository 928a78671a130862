"""The version of a Qdrant server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


def server_version(client: QdrantBase) -> tuple[int, ...] | None:
    """What the server says its version is, `(1, 18, 3)`; None where it cannot be told."""
    try:
        found = re.match(r"\d+(\.\d+)*", client.info().version)
    except Exception:  # an embedded store has no such call, a proxy may not pass it on
        return None
    return tuple(int(number) for number in found[0].split(".")) if found else None
