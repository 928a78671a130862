"""Edge's write-ahead log on disk: how far it goes, how large it is, and beginning it anew.

`wal/` holds `closed-FIRST` files, whose names say the number of their first operation, and `open-ID` files. Each has a
header of 8 bytes and entries: a length (8 bytes), the operation, up to 7 zeros, a checksum (4 bytes). Edge takes the
number of the next operation from it: with the log lost it counts from 0 again, and the segments ignore operations whose
numbers are lower than those that they hold.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import shutil
from pathlib import Path

from diptych_edge.engine.folders import replace_file, sync_folder

WAL, SEGMENTS = "wal", "segments"
_NEW, _OLD = "wal.new", "wal.old"
_MAGIC, _HEADER = b"wal\0", 8
_CONFIG, _OPTIONS = "edge_config.json", "wal_options"
_FILES = {"segment_capacity": 1 << 19, "segment_queue_len": 0, "retain_closed": 1}


class BrokenLog(Exception):
    """The log is not what Edge wrote; the text says why."""


def log_end(shard: Path) -> int:
    """The number that the next operation gets, as far as the lengths of the entries tell. Edge checks the checksums.

    Raises:
        BrokenLog: files are missing or are no logs.
    """
    folder = shard / WAL
    closed_files = sorted((_number(path), path) for path in folder.glob("closed-*"))
    open_files = sorted((_number(path), path) for path in folder.glob("open-*"))
    if not closed_files and not open_files:
        raise BrokenLog("it has no files" if folder.is_dir() else "its folder is missing")
    end = closed_files[0][0] if closed_files else 0
    for first, path in closed_files:
        if first != end:
            raise BrokenLog(f"operations {min(first, end)} to {max(first, end) - 1} are not where they belong")
        end += _entries(path)
    return end + sum(_entries(path) for _, path in open_files)


def newest_version(shard: Path) -> int:
    """The number of the last operation that the segments have on disk; -1 when they have none.

    Raises:
        OSError, ValueError: a segment cannot be read.
    """
    try:
        states = (json.loads(path.read_text(encoding="utf-8")) for path in shard.glob(f"{SEGMENTS}/*/segment.json"))
        return max((int(state["version"] or 0) for state in states), default=-1)
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a segment's state is damaged: {type(error).__name__}: {error}") from error


def is_replayed(shard: Path) -> bool:
    """Whether the segments contain the whole log, so that it can be dropped."""
    try:
        replayed = int(json.loads((shard / WAL / "first-index").read_text(encoding="utf-8"))["ack_index"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        replayed = -1
    firsts = [_number(path) for path in (shard / WAL).glob("closed-*")]
    end = log_end(shard)
    return replayed >= end - 1 or min(firsts, default=0) == end


def restart_log(shard: Path, first: int) -> None:
    """Put an empty log in place whose next operation is number `first`. The shard is closed, its segments complete."""
    new = shard / _NEW
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    with (new / f"closed-{first}").open("wb") as file:
        file.write(_MAGIC + secrets.token_bytes(_HEADER - len(_MAGIC)))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(new)
    if (shard / WAL).exists():
        (shard / WAL).rename(shard / _OLD)
    new.rename(shard / WAL)
    sync_folder(shard)
    shutil.rmtree(shard / _OLD, ignore_errors=True)


def use_small_files(shard: Path) -> None:
    """Have Edge begin a new file of the log after 512 kB, not 32 MB: it removes what was flushed only by whole files.

    The shard is closed. A file that is there keeps its size until it is full or the log is restarted.
    """
    try:
        config = json.loads((shard / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # Edge reports what is wrong with it
    if isinstance(config, dict) and config.get(_OPTIONS) != _FILES:
        replace_file(shard / _CONFIG, json.dumps({**config, _OPTIONS: _FILES}, ensure_ascii=False))


def finish_restart(shard: Path) -> None:
    """Complete what a kill in `restart_log` left unfinished."""
    wal, new, old = (shard / name for name in (WAL, _NEW, _OLD))
    if not wal.exists() and old.exists():
        old.rename(wal)  # the new one may be incomplete; the old one is complete and equivalent
    for leftover in (new, old):
        if leftover.exists():
            shutil.rmtree(leftover, ignore_errors=True)


def allocated(folder: Path) -> int:
    """Bytes that the files below take on disk; Edge's are mostly holes, and an optimisation shares some."""
    total, shared = 0, set[tuple[int, int]]()
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:  # Edge renames and removes files of its log
                continue
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in shared:
                    continue
                shared.add((status.st_dev, status.st_ino))
            total += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
    return total


def _number(path: Path) -> int:
    text = path.name.partition("-")[2]
    if not (text.isascii() and text.isdigit()):
        raise BrokenLog(f"{path.name} is not a log file")
    return int(text)


def _entries(path: Path) -> int:
    """How many operations a file holds."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < _HEADER or file.read(len(_MAGIC)) != _MAGIC:
            raise BrokenLog(f"{path.name} does not start like a log file")
        if size == _HEADER:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _count(data, size)


def _count(data: mmap.mmap, size: int) -> int:
    count, offset = 0, _HEADER
    while offset + 12 < size:
        length = int.from_bytes(data[offset : offset + 8], "little")
        next_offset = offset + 12 + length + -(12 + length) % 8
        if not length or next_offset > size:
            return count
        count, offset = count + 1, next_offset
    return count
