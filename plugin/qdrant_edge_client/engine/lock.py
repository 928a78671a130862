"""Allows one process per path, by a lock file that the system releases when its holder ends."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import portalocker

from qdrant_edge_client.errors import StoreLocked
from qdrant_edge_client.plain_files import plain_file

LOCK = ".lock"
STARTING, ENDING = "starting", "ending"  # states of a holder that does not answer other processes yet, or any more
PATIENCE = 2.0  # seconds: the lock of a killed process is freed only when the system has taken its memory apart
_PAUSE = 0.02


class PathLock:
    """Holds `PATH/.lock` from now to `release()`; the system frees it when the process ends in any way.

    Args:
        patience: seconds to try for. A holder that was killed keeps the lock until the system has cleared it away.

    Raises:
        StoreLocked: another process holds it; the text says which.
    """

    def __init__(self, root: Path, *, patience: float = PATIENCE) -> None:
        self._path = root / LOCK
        self._file: IO[str] = open(self._path, "a+", encoding="ascii", opener=plain_file)  # noqa: SIM115 - held open
        if hasattr(os, "getuid") and (facts := os.fstat(self._file.fileno())).st_uid == os.getuid():
            folder = root.stat()  # whoever may read the lock can lock out whom the folder belongs to
            shared = folder.st_mode & stat.S_IWGRP and folder.st_gid == facts.st_gid
            os.fchmod(self._file.fileno(), 0o660 if shared else 0o600)
        try:
            if not tried_until(time.monotonic() + patience, self._take):
                # The process that holds the lock, and its state.
                self._file.seek(0)
                pid, _, state = self._file.read(100).strip().partition(" ")
                raise _locked(root, int(pid) if pid.isascii() and pid.isdigit() else None, state)
        except BaseException:
            self._file.close()
            raise
        self.say(STARTING)

    def say(self, state: str = "") -> None:
        """Tell waiting processes what this one does: opening and flushing may take long."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()} {state}".strip())
            self._file.flush()

    @property
    def in_place(self) -> bool:
        """Whether the locked file is still the one that others would lock: the folder may have been replaced."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except (OSError, ValueError):
            return False

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        if not self._file.closed:
            portalocker.unlock(self._file)
            self._file.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copy of the file, which leaves the lock with the parent alone."""
        self._file.close()

    def _take(self) -> bool:
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            return False
        return True


def tried_until(end: float, attempt: Callable[[], bool]) -> bool:
    """Repeat `attempt` until it succeeds, or until the monotonic clock reaches `end`; returns whether it did."""
    while not attempt():
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)
    return True


def _locked(root: Path, holder: int | None, state: str) -> StoreLocked:
    return StoreLocked(
        "the embedded store is open elsewhere",
        where=f"edge:{root}",
        got=f"held by process {holder or 'unknown'}",
        expected="one process with the engine",
        do="wait until it ends, or end it; what opens edge:PATH, as SharedEdgeClient does, shares the store with it",
        holder=holder,
        state=state,
    )
