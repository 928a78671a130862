"""The seal of a shard: sizes and checksums of its files when it was closed, kept in its folder.

While a shard is open its seal is broken (`clean` is false). It holds sizes, since lasting files never get smaller, and
checksums of those files that Edge never changes: it trusts the counts in them, and a wrong one may end the process.
The log is not in it: it is checked by its own numbers.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from diptych_edge.engine.sidecar import replace_file
from diptych_edge.health.wal import SEGMENTS

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
        for start, piece in _pieces(file):
            if piece != _ZEROS[: len(piece)]:
                crc = zlib.crc32(piece, zlib.crc32(start.to_bytes(8, "little"), crc))
                held += len(piece)
    return held, crc


def _pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
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
