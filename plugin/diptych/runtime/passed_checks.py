"""Remembers passed checks in the user's cache folder, so that later processes need not repeat them.

A result is stored for a subject, such as a file, together with the subject's state. It is returned only to a caller
that gives the same state. Each subject has one small JSON file, replaced as a whole. If it cannot be read or written,
the check is simply repeated. With `DIPTYCH_CACHE=off` nothing is
remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

VARIABLE, OFF = "DIPTYCH_CACHE", "off"
SETTLED = 2 * 10**9  # nanoseconds: a file that changed later than that may change again within one tick of its clock
MOST = 1000  # subjects of a kind; those that were checked longest ago go


def recalled(kind: str, subject: str, state: object) -> Any:
    """The result stored for the subject in exactly this state; None if there is none."""
    if not _enabled():
        return None
    try:
        stored = json.loads(_file(kind, subject).read_bytes())
        return stored["value"] if stored["state"] == _spelt(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(kind: str, subject: str, state: object, value: object) -> None:
    """Store a JSON value for the subject in this state. Replaces the value stored before."""
    if not _enabled():
        return
    file = _file(kind, subject)
    temporary = file.with_name(f"{file.name}.{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(OSError):  # a full disk or a folder that may not be written: the check is made again
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(
                temporary, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)
            ) as opened:
                json.dump({"state": _spelt(state), "value": value}, opened)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        files = sorted(file.parent.glob("*.json"), key=lambda own: own.stat().st_mtime)
        for oldest in files[: max(0, len(files) - MOST)]:
            oldest.unlink(missing_ok=True)


def stamps(paths: Iterable[Path]) -> list[list[object]] | None:
    """The files' state: path, size, inode, and times of change to the nanosecond.

    Only the system sets the inode's change time, so it changes even if a program writes as many bytes as before and
    restores the modification time. None if one of the files changed too recently to be sure.
    """
    now, states = time.time_ns(), []
    for path in sorted(paths):
        status = path.stat()
        if max(status.st_mtime_ns, status.st_ctime_ns) > now - SETTLED:
            return None
        states.append([str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev])
    return states


def _enabled() -> bool:
    return os.environ.get(VARIABLE, "").lower() != OFF


def _file(kind: str, subject: str) -> Path:
    name = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(platformdirs.user_cache_path("diptych", appauthor=False)) / "checks" / kind / f"{name}.json"


def _spelt(state: object) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()
