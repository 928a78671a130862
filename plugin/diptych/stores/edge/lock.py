"""One process, one client for a path: a lock file that dies with its holder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import portalocker

from diptych.errors import StoreLocked


class PathLock:
    """Holds `PATH/.lock` from now to `release()`; the operating system frees it when the process ends, however.

    Raises:
        StoreLocked: another client holds it; the text says which process.
    """

    def __init__(self, root: Path) -> None:
        self._file: IO[str] = open(root / ".lock", "a+", encoding="ascii")  # noqa: SIM115 - held open to hold the lock
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException as error:
            holder = _holder(self._file)
            self._file.close()
            raise _locked(root, holder) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if not self._file.closed:
            portalocker.unlock(self._file)
            self._file.close()


def _holder(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else None


def _locked(root: Path, holder: int | None) -> StoreLocked:
    here = holder == os.getpid()
    who = "another EdgeClient of this process" if here else f"process {holder or 'unknown'}"
    do = "close that client, or share it" if here else "wait until it ends, or end it"
    return StoreLocked(
        "the embedded store is open elsewhere",
        where=f"edge:{root}",
        got=f"held by {who}",
        expected="one client at a time",
        do=f"{do}; for several processes use a server: store: http(s)://...",
        holder=holder,
    )
