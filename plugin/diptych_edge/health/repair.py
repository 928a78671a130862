"""Rebuilds a damaged shard from what can be read of it: `diptych doctor --repair`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from diptych_edge.engine.folders import DAMAGED, SHARD, Record, remove
from diptych_edge.health import salvage, space
from diptych_edge.health.inspection import is_json
from diptych_edge.health.seal import MARK, SEAL, pieces, read_mark, read_seal
from diptych_edge.health.wal import (
    SEGMENTS,
    WAL,
    BrokenLog,
    allocated,
    finish_restart,
    log_end,
    newest_version,
    restart_log,
)

_EXCLUDED = shutil.ignore_patterns(WAL, f"{WAL}.*", "temp_segments", SEAL, MARK)
_IMMUTABLE = "matrix.dat", "links.bin", "links_compressed.bin", "inverted_index.dat"  # written once, then only read
_VECTORS = "vectors/chunk_*.mmap"  # of a segment that takes points: new vectors are appended

LONGEST = 3600  # seconds that reading may take
_VERSION = "0.6.0"  # what Edge writes into version.info


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair could read of a collection.

    `expected` is the last recorded number of points, None if there is none. `unreadable`
    names some of the points that could not be read. `kept` is the folder of the damaged data, None where all was read.
    """

    collection: str
    points: int
    expected: int | None
    unreadable: tuple[int | str, ...]
    unreadable_count: int
    kept: Path | None

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.unreadable_count and (self.expected is None or self.points >= self.expected)


def repair(folder: Path) -> RepairReport:
    """Replace the damaged shard of the collection in `folder` by a new one with the readable points.

    Raises:
        StoreError: the collection's record cannot be read, or the disk has too little space.
    """
    record = Record.read(folder)
    source = folder / record.shard
    space.require_space(folder, 3 * allocated(source) + space.TO_WRITE, "to repair")
    work, target = (folder / f"{SHARD}{uuid4().hex[:12]}" for _ in range(2))
    try:
        result = _salvaged(folder, source, work, target)
        replace(record, shard=target.name, pending=None, stale=True).write(folder)
    except BaseException:
        remove(target)
        raise
    finally:
        remove(work)
    report = RepairReport(
        record.name, result["points"], expected_points(source), tuple(result["lost"]), result["lost_count"], None
    )
    if report.complete and not result["parts"]:
        remove(source)
        return report
    kept = folder / f"{DAMAGED}{source.name}"
    if source.exists():
        source.rename(kept)
    return replace(report, kept=kept if kept.exists() else None)


def expected_points(shard: Path) -> int | None:
    """The last recorded number of points."""
    seal, mark = read_seal(shard), read_mark(shard)
    if mark is not None:
        return mark[1]
    return seal.points if seal is not None else None


def _salvaged(folder: Path, source: Path, work: Path, target: Path) -> dict[str, Any]:
    """What was read; `parts` says whether the shard could only be read segment by segment."""
    for keep_log in (True, False):
        if source.is_dir() and _prepare_copy(source, work, keep_log=keep_log):
            result = _run(folder, work, target)
            if result is not None:
                return {**result, "parts": False}
        remove(target)
    total: dict[str, Any] = {"points": 0, "lost": [], "lost_count": 0, "parts": True}
    for name in _segments(source):
        if _prepare_copy(source, work, keep_log=False, only=name) and (result := _run(folder, work, target)):
            total["points"] = result["points"]
            total["lost"] += result["lost"]
            total["lost_count"] += result["lost_count"]
    if not (target / SEGMENTS).is_dir():
        _run(folder, None, target)
    return total


def _prepare_copy(source: Path, work: Path, *, keep_log: bool, only: str = "") -> bool:
    """Copy a shard so that Edge opens it: all of it or one segment, with its log or an empty one."""
    remove(work)
    finish_restart(source)
    shutil.copytree(source, work, ignore=_EXCLUDED, copy_function=copy_sparse)
    for path in (work / SEGMENTS).glob("*"):
        if only and path.name != only:
            shutil.rmtree(path)
        elif not (path / "version.info").exists():
            (path / "version.info").write_text(_VERSION)
    config = work / "edge_config.json"
    if config.exists() and not is_json(config):
        config.unlink()
    try:
        version = _newest(work)
        if keep_log:
            if (source / WAL).is_dir():
                shutil.copytree(source / WAL, work / WAL, copy_function=copy_sparse)
            if not is_json(work / WAL / "first-index"):
                (work / WAL / "first-index").unlink(missing_ok=True)  # all of the log is done over then
            return log_end(work) > version
        restart_log(work, version + 1)
    except (BrokenLog, OSError):
        return False
    return True


def _newest(work: Path) -> int:
    """The number of the last operation in the segments; those whose state is unreadable go."""
    for path in (work / SEGMENTS).glob("*"):
        if not is_json(path / "segment.json"):
            shutil.rmtree(path)
    try:
        return newest_version(work)
    except ValueError:
        return 1 << 40  # more than any number that was given


def _segments(source: Path) -> list[str]:
    """The segments by age, so that what is newer comes later."""

    def age(path: Path) -> int:
        try:
            return int(json.loads((path / "segment.json").read_text(encoding="utf-8"))["version"] or 0)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return -1

    return [path.name for path in sorted((source / SEGMENTS).glob("*"), key=age)]


def _run(folder: Path, work: Path | None, target: Path) -> dict[str, Any] | None:
    """Read `work` into `target` in a separate process; None if that fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    request = {"collection": str(folder), "source": str(work) if work else "", "target": str(target)}
    command = [sys.executable, "-P", "-m", salvage.__name__, json.dumps(request)]
    try:
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return None
    if process.returncode:
        return None
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def link_data(source: Path, target: Path) -> None:
    """Copy segments and settings of a shard that is only read until `unlink_data(target)`; the vectors are shared.

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


def copy_sparse(source: str, target: str) -> str:
    """Copy a file, with its holes."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        for start, piece in pieces(file):
            held = piece.rstrip(b"\0")
            copy.seek(start + len(piece) - len(piece.lstrip(b"\0")))
            copy.write(held.lstrip(b"\0"))
        copy.truncate(os.fstat(file.fileno()).st_size)
    return target
