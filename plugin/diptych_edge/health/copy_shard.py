"""Copies of a shard's data: Edge's files are mostly holes, which a plain copy would fill."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from diptych_edge.health.ledger import MARK
from diptych_edge.health.seal import SEAL
from diptych_edge.health.wal import WAL

_EXCLUDED = shutil.ignore_patterns(WAL, f"{WAL}.*", "temp_segments", SEAL, MARK)
_PIECE = 1 << 20
_IMMUTABLE = "matrix.dat", "links.bin", "links_compressed.bin", "inverted_index.dat"  # written once, then only read
_VECTORS = "vectors/chunk_*.mmap"  # of a segment that takes points: new vectors are appended


def copy_data(source: Path, target: Path) -> None:
    """Copy segments and settings, without the log, the seal and the mark."""
    shutil.copytree(source, target, ignore=_EXCLUDED, copy_function=copy_sparse)


def link_data(source: Path, target: Path) -> None:
    """The same for a shard that is only read until `unlink_data(target)`: the vectors are not copied but shared.

    Meanwhile vectors may be appended in `source`, where the copied counts do not reach, or replaced by writes that
    `target` is to get too. Where the file system cannot link, all is copied.
    """
    shutil.copytree(source, target, ignore=_EXCLUDED, copy_function=_link)


def unlink_data(target: Path) -> None:
    """Give `target` its own copy of each shared file that is written to."""
    for path in target.glob(f"segments/*/*/{_VECTORS}"):
        if path.stat().st_nlink > 1:
            copy_sparse(str(path), f"{path}.own")
            Path(f"{path}.own").replace(path)


def _link(source: str, target: str) -> str:
    if os.path.basename(source) in _IMMUTABLE or Path(source).match(_VECTORS):
        with suppress(OSError):
            os.link(source, target)
            return target
    return copy_sparse(source, target)


def copy_log(source: Path, target: Path) -> None:
    """Copy the log."""
    if (source / WAL).is_dir():
        shutil.copytree(source / WAL, target / WAL, copy_function=copy_sparse)


def copy_sparse(source: str, target: str) -> str:
    """Copy a file, with its holes if the system reports them."""
    with open(source, "rb") as source_file, open(target, "wb") as target_file:
        size = os.fstat(source_file.fileno()).st_size
        start = _seek(source_file.fileno(), 0, "SEEK_DATA")
        while start is not None:
            end = _seek(source_file.fileno(), start, "SEEK_HOLE") or size
            _copy_range(source_file.fileno(), target_file.fileno(), start, end)
            start = _seek(source_file.fileno(), end, "SEEK_DATA") if end < size else None
        target_file.truncate(size)
    return target


def _seek(descriptor: int, offset: int, what: str) -> int | None:
    """The next data or hole from `offset` on; if the system cannot tell, everything counts as data."""
    whence = getattr(os, what, None)
    if whence is None:
        return offset if what == "SEEK_DATA" else None
    try:
        return os.lseek(descriptor, offset, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        return offset if what == "SEEK_DATA" else None


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    os.lseek(source, start, os.SEEK_SET)
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        piece = os.read(source, min(_PIECE, end - start))
        if not piece:
            return
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]
        start += len(piece)
