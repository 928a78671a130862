"""Records what a shard has acknowledged, so that the next opening can check that it is all still there."""

from __future__ import annotations

import struct
import time
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from diptych_edge.health import space
from diptych_edge.health.seal import SEAL, Seal, changed_bulk, contents, sizes, write_seal
from diptych_edge.health.wal import WAL, BrokenLog, allocated, log_end, newest_version, restart_log

MARK = "diptych-mark"
PROBE = "diptych.probe"  # a payload field without an index, whose index is deleted: nothing changes but the last number
FLUSH_BYTES, FLUSH_SECONDS = (2 << 20, 8 << 20), 5.0  # of the log; an eighth of the data within these bounds
LOG_BYTES = 4 << 20  # of a flushed log; up to 3 files of 1 MB stay
_MARK = struct.Struct("<qqI")  # the number of the last acknowledged operation, the points after it, a checksum of both


class Ledger:
    """The record of an open shard: the last operation that was acknowledged and the points there were after it.

    The mark is one small write for each operation, not made durable: it outlives the process, as the log does.

    Args:
        shard: the folder.
        last: the number of the last operation.
        opened: the EdgeShard.
        sealed: the clean seal that it was opened with, if it was.
        free: returns the free space of a folder's disk.
    """

    def __init__(
        self, shard: Path, last: int, edge_shard: Any, sealed: Seal | None = None, free: space.Free = space.free_bytes
    ) -> None:
        self.shard, self.last, self.sealed, self._free = shard, last, sealed, free
        self._first = last
        self.data = 0  # bytes of the segments as of the last flush
        points = int(edge_shard.info().points_count)
        write_seal(shard, Seal(clean=False, last=last, points=points, files=sizes(shard, sealed)), durable=False)
        self._mark = (shard / MARK).open("wb", buffering=0)
        # A shard whose folder was removed is never closed. In a forked process the file is closed already.
        weakref.finalize(self, _close, self._mark).atexit = False
        self._write_mark(points)
        self.flushed()

    def admit(self, size: int) -> None:
        """Raise StoreFull unless there is space for an operation of so many bytes."""
        space.require_space(self.shard, space.TO_WRITE + space.COPIES * size, "to write", free=self._free)

    def acknowledge(self, edge_shard: Any) -> None:
        """Note that one more operation has been applied."""
        self.last += 1
        self._write_mark(int(edge_shard.info().points_count))

    def due(self) -> bool:
        """Whether Edge should flush: only a flush reclaims the space of old payloads and of the log."""
        if time.monotonic() - self._time > FLUSH_SECONDS:
            return True
        return allocated(self.shard / WAL) - self._log >= self._allowed

    def flushed(self) -> None:
        """Note that Edge has flushed."""
        self._time, self._log = time.monotonic(), allocated(self.shard / WAL)
        self.data = allocated(self.shard) - self._log
        self._allowed = min(max(self.data // 8, FLUSH_BYTES[0]), FLUSH_BYTES[1])

    def overgrown(self) -> bool:
        """Whether a flushed log should be restarted: it has files of 32 MB, or was given very large operations."""
        return self._log > max(LOG_BYTES, self.data // 4)

    def changed_files(self) -> Iterator[str]:
        """Large files that are not as they were sealed, as long as nothing has been written since."""
        if self.sealed is not None and self.last == self._first:
            yield from changed_bulk(self.shard, self.sealed)

    def rebase(self) -> None:
        """Accept the current files as expected, after named vectors were added or dropped."""
        seal = Seal(clean=False, last=self.last, points=0, files=sizes(self.shard))
        write_seal(self.shard, seal, durable=False)

    def close(self, points: int) -> None:
        """Seal the shard, which Edge has flushed and closed. If that fails, the next opening looks more closely."""
        self.abandon()
        try:
            if self.sealed is None or self.last != self._first:
                self.last = trim_log(self.shard) - 1
            files = contents(self.shard, self.sealed)
            write_seal(self.shard, Seal(clean=True, last=self.last, points=points, files=files), durable=True)
        except (OSError, ValueError, BrokenLog):
            return

    def abandon(self) -> None:
        """Stop recording: another folder has replaced this one."""
        self._mark.close()

    def _write_mark(self, points: int) -> None:
        body = struct.pack("<qq", self.last, points)
        self._mark.seek(0)
        self._mark.write(body + struct.pack("<I", zlib.crc32(body)))


def _close(file: FileIO) -> None:
    with suppress(OSError):
        file.close()


def read_mark(shard: Path) -> tuple[int, int] | None:
    """The last acknowledged operation and the points after it; None if there is no readable mark."""
    try:
        content = (shard / MARK).read_bytes()
    except OSError:
        return None
    if len(content) != _MARK.size or zlib.crc32(content[:16]) != _MARK.unpack(content)[2]:
        return None
    return _MARK.unpack(content)[:2]


def trim_log(shard: Path) -> int:
    """Empty the log of a closed shard whose segments hold all operations; returns the number of the next operation."""
    end = max(log_end(shard), newest_version(shard) + 1)
    restart_log(shard, end)
    return end


def probe(edge_shard: Any) -> int | None:
    """The number that Edge gave an operation that changes nothing; None when the segments have passed over it."""
    before = after = version_of(edge_shard)
    for _ in range(2 if not before else 1):  # a new shard has version 0, and still has it after operation 0
        edge_shard.update(edge.UpdateOperation.delete_field_index(PROBE))
        after = version_of(edge_shard)
    return after if after > before else None


def version_of(edge_shard: Any) -> int:
    """The number of the last operation that the segments of an open shard know."""
    return max(
        (int(segment["segment_version"] or 0) for segment in edge_shard.snapshot_manifest().values()), default=-1
    )


def forget(shard: Path) -> None:
    """Remove seal and mark, which no longer describe the folder."""
    for name in (SEAL, MARK):
        (shard / name).unlink(missing_ok=True)
