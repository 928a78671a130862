"""Checks free space before Edge writes through its memory maps, which on a full disk kills the process (SIGBUS)."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path

from diptych.errors import StoreFull

TO_READ = 1 << 20  # bytes that are to stay free when a closed collection is opened, which writes some small files
TO_OPEN = 16 << 20  # the same where its log is replayed, beside the log's size
TO_WRITE = 32 << 20  # the same for a write
_READ_IN_PARTS = ("payload_storage", "store")  # folders of files that a memory map does not read whole
COPIES = 4  # a written point is in the log, the segment and its indexes, and for a moment also in an old version


def require_space(folder: Path, needed: int, purpose: str, *, do: str = "") -> None:
    """Raise StoreFull unless `needed` bytes are free."""
    available = shutil.disk_usage(folder).free
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


def require_room_to_read(shard: Path, segments: Path, needed: int) -> None:
    """Raise StoreFull unless `needed` bytes are free, and beside them those that reading the files itself takes.

    Edge reads most of its files through memory maps and whole, and they are mostly holes. tmpfs allocates the holes
    that are read so. Other file systems do not.
    """
    require_space(shard, needed, "to open the collection")
    files = [path.stat() for path in segments.rglob("*") if path.parent.name not in _READ_IN_PARTS and path.is_file()]
    holes = sum(max(0, facts.st_size - 512 * facts.st_blocks) for facts in files if hasattr(facts, "st_blocks"))
    if shutil.disk_usage(shard).free < needed + holes and _allocates_holes(shard):
        do = "move the store to a disk: here its files take memory as they are read"
        require_space(shard, needed + holes, "to open the collection", do=do)


def _allocates_holes(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 0) as data:
            _ = data[0]
        return os.fstat(file.fileno()).st_blocks > 0
