"""Looks at a shard before and after Edge opens it.

Edge opens damaged shards without an error: without its log it ignores new operations, and it removes a segment without
`version.info`. So the files are inspected first, before anything is changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import StoreDamaged
from diptych_edge.health import space
from diptych_edge.health.seal import Ledger, Seal, broken, probe, read_mark, read_seal
from diptych_edge.health.wal import (
    SEGMENTS,
    WAL,
    BrokenLog,
    allocated,
    finish_restart,
    is_replayed,
    log_end,
    newest_version,
    restart_log,
)

SHOWN = 3  # problems in an error
COUNT = "status.dat"  # begins with the number of entries in the files beside it
REPAIR = "stop what uses the store, then: diptych doctor --repair; it keeps what can be read, populate adds the rest"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the shard should hold according to its files. `last` and `points` are -1 if unknown."""

    seal: Seal | None
    last: int
    points: int


def inspect(shard: Path, *, changing: bool = False) -> Findings:
    """Inspect the files of a closed shard.

    Args:
        changing: a vector may be half added or dropped, so files may have appeared or gone.

    Raises:
        StoreDamaged: files are missing or are not what was left there.
        StoreFull: there is too little disk space.
    """
    if irregular := [path for path in shard.rglob("*") if not path.is_dir() and not path.is_file()]:
        raise damage(shard, [f"{path.relative_to(shard).as_posix()} is not a regular file" for path in irregular])
    finish_restart(shard)
    if changing:
        _catch_up(shard)
    seal, mark = read_seal(shard), read_mark(shard)
    clean = seal is not None and seal.clean and not changing
    last = max(seal.last if seal else -1, mark[0] if mark and not clean else -1)
    problems = [*_segments(shard), *_counts(shard), *_log(shard, last)]
    if seal is not None and not changing:
        problems += broken(shard, seal)
    if problems:
        raise damage(shard, problems)
    needed = (space.TO_READ if clean else space.TO_OPEN) + allocated(shard / WAL)
    space.require_room_to_read(shard, shard / SEGMENTS, needed)
    points = seal.points if clean and seal else mark[1] if mark and mark[0] == log_end(shard) - 1 else -1
    return Findings(seal if clean else None, last, points)


def _catch_up(shard: Path) -> None:
    """A change of vectors reaches the segments at once, and the log of it the disk only later: begin anew after it."""
    try:
        version = newest_version(shard)
        if log_end(shard) <= version and is_replayed(shard):
            restart_log(shard, version + 1)
    except (OSError, ValueError, BrokenLog):
        return  # `inspect` reports it


def begin(shard: Path, edge_shard: Any, findings: Findings) -> Ledger:
    """Check a shard that Edge has just opened against its files, and return its ledger.

    Raises:
        StoreDamaged: acknowledged operations or points are lost, or new ones would be.
    """
    points = int(edge_shard.info().points_count)
    if points < findings.points or (findings.seal and points != findings.points):
        raise damage(shard, [f"it has {points:,} points, not {findings.points:,}"])
    if findings.seal is not None:
        return Ledger(shard, findings.last, edge_shard, findings.seal)
    number = probe(edge_shard)
    if number is None:
        raise damage(shard, ["the log was lost: its numbers begin anew, so Edge would ignore what is written"])
    if number <= findings.last:
        raise damage(shard, [f"the log has lost {findings.last - number + 1:,} acknowledged changes"])
    return Ledger(shard, number, edge_shard)


def damage(shard: Path, problems: list[str]) -> StoreDamaged:
    """The error of a shard whose files are not as they were left."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return StoreDamaged(
        "the data of a collection are damaged; they were left alone",
        where=shard,
        got="; ".join(problems[:SHOWN]) + more,
        expected="the files as they were left",
        do=REPAIR,
        problems=tuple(problems),
    )


def _segments(shard: Path) -> Iterator[str]:
    folders = [path for path in (shard / SEGMENTS).glob("*") if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        yield f"{SEGMENTS} holds no segment" if shard.is_dir() else "the folder is missing"
    for folder in folders:
        if not (folder / "version.info").exists():
            yield f"{SEGMENTS}/{folder.name}/version.info is missing"
        if not is_json(folder / "segment.json"):
            yield f"{SEGMENTS}/{folder.name}/segment.json is missing or damaged"
    if folders and (shard / "edge_config.json").exists() and not is_json(shard / "edge_config.json"):
        yield "edge_config.json is damaged"


def _counts(shard: Path) -> Iterator[str]:
    """Counts that cannot be: Edge takes memory for as many entries, and ends the process where it gets none."""
    for path in shard.glob(f"{SEGMENTS}/*/**/{COUNT}"):
        try:
            count = int.from_bytes(path.read_bytes()[:8], "little")
            available = sum(other.stat().st_size for other in path.parent.iterdir() if other != path)
        except OSError:
            continue  # Edge reports what is wrong with it
        if count > 8 * available:  # an entry is at least a bit
            yield f"{path.relative_to(shard).as_posix()} counts {count:,} entries, where {8 * available:,} have room"


def _log(shard: Path, last: int) -> Iterator[str]:
    try:
        end = log_end(shard)
    except (BrokenLog, OSError) as error:
        yield f"the write-ahead log: {error}"
        return
    if end <= last:
        yield f"the write-ahead log ends {last - end + 1:,} changes before the last one that was acknowledged"
    try:
        version = newest_version(shard)
    except (OSError, ValueError):
        return  # `_segments` reports it
    for path in shard.glob(f"{SEGMENTS}/*/*id_tracker.versions"):
        versions = np.fromfile(path, "<u8", count=path.stat().st_size // 8)
        if len(versions) and int(versions.max()) >= max(end, 1):
            yield f"{path.relative_to(shard).as_posix()} names changes that the write-ahead log has not had yet"
    if end <= version and version:  # 0 is the version of a new shard, too
        yield f"the write-ahead log ends at change {end - 1:,}, the data at {version:,}"


def is_json(path: Path) -> bool:
    """Whether a file holds a JSON object."""
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, RecursionError):
        return False
