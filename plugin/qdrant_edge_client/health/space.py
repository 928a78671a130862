"""Checks free space before Edge writes through its memory maps, which on a full disk kills the process (SIGBUS)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from qdrant_edge_client.errors import StoreFull

Free = Callable[[Path], int]
TO_OPEN = 16 << 20  # bytes that are to stay free beside what opening itself takes
TO_WRITE = 32 << 20  # the same for a write
COPIES = 4  # a written point is in the log, the segment and its indexes, and for a moment also in an old version


def free_bytes(folder: Path) -> int:
    """Free space of the file system that holds `folder`."""
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int, purpose: str, *, free: Free = free_bytes, do: str = "") -> None:
    """Raise StoreFull unless `needed` bytes are free."""
    available = free(folder)
    if available < needed:
        raise StoreFull(
            f"too little disk space {purpose}",
            where=folder,
            got=f"{available / (1 << 20):,.1f} MiB free",
            expected=f"{needed / (1 << 20):,.1f} MiB",
            do=do or "free some space on that disk and retry: what was acknowledged is kept",
            needed=needed,
            free=available,
        )
