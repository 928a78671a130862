"""The seal of a shard: sizes and checksums of its files when it was closed, kept in its folder.

While a shard is open its seal is broken (`clean` is false). It holds sizes, since lasting files never get smaller, and
checksums of those files that Edge never changes: it trusts the counts in them, and a wrong one may end the process.
The log is not in it: it is checked by its own numbers.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import IO, Any

import qdrant_edge as edge
from pydantic import TypeAdapter, ValidationError

from diptych_edge.engine.folders import replace_file
from diptych_edge.health import space
from diptych_edge.health.wal import SEGMENTS, WAL, BrokenLog, allocated, log_end, newest_version, restart_log

MARK = "diptych-mark"
PROBE = "diptych.probe"  # a payload field without an index, whose index is deleted: nothing changes but the last number
FLUSH_BYTES, FLUSH_SECONDS = (2 << 20, 8 << 20), 5.0  # of the log; an eighth of the data within these bounds
LOG_BYTES = 4 << 20  # of a flushed log; up to 3 files of 1 MB stay
_MARK = struct.Struct("<qqI")  # the number of the last acknowledged operation, the points after it, a checksum of both

SEAL, CONFIG = "diptych-seal.json", "edge_config.json"
FORMAT = 1
BULK = 4 << 20  # bytes from which a file's content is compared by `verify`, no more at each opening
_BLOCK = 1 << 16
_ZEROS = bytes(_BLOCK)
_LASTING = (
    "segment.json",
    "version.info",
    "chunk_",
    "matrix.dat",
    "page_",
    "id_tracker.",
    "tracker.dat",
    "config.json",
)
_IMMUTABLE = {
    "id_tracker.mappings",
    "matrix.dat",
    "graph.bin",
    "links.bin",
    "links_compressed.bin",
    "hnsw_config.json",
    "inverted_index.dat",
    "inverted_index_config.json",
    "indices_tracker.json",
    "sparse_index_config.json",
    "quantized.config.json",
    "quantized.data",
    "quantized.meta.json",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file's size; if its content is known also the bytes that are not holes, their checksum and its time, in ns."""

    size: int
    held: int = 0
    crc: int | None = None
    changed: int = 0

    @property
    def bulk(self) -> bool:
        """Whether it is so large that only `verify` reads its content."""
        return self.held >= BULK


@dataclass(frozen=True, slots=True)
class Seal:
    """`last`: the number of the last operation; `points`: how many there were; `files` by path below the shard."""

    clean: bool
    last: int
    points: int
    files: Mapping[str, File]


def read_seal(shard: Path) -> Seal | None:
    """The seal of a shard; None if there is no readable one, as in stores of earlier releases."""
    try:
        raw = json.loads((shard / SEAL).read_text(encoding="utf-8"))
        if raw.pop("format") != FORMAT:
            return None
        seal: Seal = _SEAL.validate_python(raw)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, ValidationError):
        return None
    return seal


def write_seal(shard: Path, seal: Seal, *, durable: bool) -> None:
    """Replace the seal. A seal that is not durable survives a kill of the process, but not a power cut."""
    text = json.dumps({"format": FORMAT, **_SEAL.dump_python(seal, mode="json")})
    replace_file(shard / SEAL, text, durable=durable)


def break_seal(shard: Path, seal: Seal | None) -> None:
    """Mark the shard as open before Edge opens it: opening alone changes files, and a kill may come at any moment."""
    if seal is not None and seal.clean:
        files = {name: file if _immutable(name) else File(file.size) for name, file in seal.files.items()}
        write_seal(shard, replace(seal, clean=False, files=files), durable=False)


def sizes(shard: Path, before: Seal | None = None) -> dict[str, File]:
    """The current files with their sizes; those that never change with checksums, large ones if `before` has them."""
    previous = before.files if before is not None else {}
    return {name: _size(name, path, previous.get(name)) for name, path in _files(shard)}


def contents(shard: Path, before: Seal | None) -> dict[str, File]:
    """The current files with checksums; large ones with the size and time of `before` are not read again."""
    previous = before.files if before is not None else {}
    return {name: _content(path, previous.get(name)) for name, path in _files(shard)}


def broken(shard: Path, seal: Seal) -> Iterator[str]:
    """List what differs from the seal.

    A clean seal covers sizes, and the contents of files that are small or have a new time; a broken one sizes alone,
    but for files that never change.
    """
    current = dict(_files(shard))
    for name, sealed in seal.files.items():
        exact = seal.clean or (_immutable(name) and sealed.crc is not None)
        if seal.clean or _lasting(name) or (exact and name in current):
            yield from _difference(name, current.get(name), sealed, exact=exact)
    if seal.clean:
        yield from (f"{name} was not there" for name in current if name not in seal.files)


def changed_bulk(shard: Path, seal: Seal) -> Iterator[str]:
    """Large files whose contents differ from a clean seal. Reads all of them."""
    for name, path in _files(shard):
        sealed = seal.files.get(name)
        if sealed is not None and sealed.bulk and _checksum(path)[1] != sealed.crc:
            yield f"{name} is not as it was written"


def _difference(name: str, path: Path | None, sealed: File, *, exact: bool) -> Iterator[str]:
    if path is None:
        yield f"{name} is missing"
        return
    status = path.stat()
    if (
        status.st_size != sealed.size
        if exact
        else status.st_size < sealed.size and not name.endswith((".json", ".info"))
    ):
        yield f"{name} has {status.st_size:,} bytes, not {sealed.size:,}"
    elif exact and (not sealed.bulk or status.st_mtime_ns != sealed.changed) and _checksum(path)[1] != sealed.crc:
        yield f"{name} is not as it was written"


def _size(name: str, path: Path, previous: File | None) -> File:
    status = path.stat()
    large = getattr(status, "st_blocks", -(-status.st_size // 512)) * 512 >= BULK
    if not _immutable(name) or (large and (previous is None or previous.changed != status.st_mtime_ns)):
        return File(status.st_size)
    return _content(path, previous)


def _content(path: Path, previous: File | None) -> File:
    status = path.stat()
    if previous and previous.bulk and (previous.size, previous.changed) == (status.st_size, status.st_mtime_ns):
        return previous
    held, crc = _checksum(path)
    return File(status.st_size, held, crc, status.st_mtime_ns)


def _checksum(path: Path) -> tuple[int, int]:
    """Bytes of a file's blocks that are not all zero, and the CRC-32 of these blocks and their places.

    The same whether a copy has kept the file's holes or filled them.
    """
    held = crc = 0
    with path.open("rb") as file:
        for start, piece in pieces(file):
            if piece != _ZEROS[: len(piece)]:
                crc = zlib.crc32(piece, zlib.crc32(start.to_bytes(8, "little"), crc))
                held += len(piece)
    return held, crc


def pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Blocks of a file, without those in holes if the system reports holes."""
    offset = _data_from(file, 0)
    while offset is not None:
        file.seek(offset)
        piece = file.read(_BLOCK)
        if not piece:
            return
        yield offset, piece
        offset = _data_from(file, offset + len(piece))


def _data_from(file: IO[bytes], offset: int) -> int | None:
    """Where the block begins that has the next data from `offset` on."""
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA) // _BLOCK * _BLOCK
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        return offset  # a file system that knows no holes


def _files(shard: Path) -> Iterator[tuple[str, Path]]:
    if (shard / CONFIG).exists():
        yield CONFIG, shard / CONFIG
    for parent, _, names in os.walk(shard / SEGMENTS):
        for name in names:
            path = Path(parent, name)
            yield path.relative_to(shard).as_posix(), path


def _immutable(name: str) -> bool:
    """Whether Edge writes such a file once, with its segment."""
    return "/payload_index/" not in name and name.rpartition("/")[2] in _IMMUTABLE


def _lasting(name: str) -> bool:
    """Whether Edge never removes or shortens such a file while its segment and its vector are there."""
    if "/payload_index/" in name or "/vector_index-" in name:
        return False
    last = name.rpartition("/")[2]
    return name == CONFIG or any(mark in last for mark in _LASTING)


_SEAL = TypeAdapter(Seal)


class Ledger:
    """The record of an open shard: the last operation that was acknowledged and the points there were after it.

    The mark is one small write for each operation, not made durable: it outlives the process, as the log does.

    Args:
        shard: the folder.
        last: the number of the last operation.
        opened: the EdgeShard.
        sealed: the clean seal that it was opened with, if it was.
    """

    def __init__(self, shard: Path, last: int, edge_shard: Any, sealed: Seal | None = None) -> None:
        self.shard, self.last, self.sealed = shard, last, sealed
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
        space.require_space(self.shard, space.TO_WRITE + space.COPIES * size, "to write")

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
