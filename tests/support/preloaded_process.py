"""The process that `preloaded` describes: one for all workers of a run, else one where a test first wants it."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("preloaded.py")
DIPTYCH = '#!/bin/sh\nexec "{python}" -IS "{program}" "{socket}" diptych "$@"\n'


def words(*program: str | Path) -> list[str]:
    """The command line that runs a program, or `diptych` with arguments, in a process that is imported already."""
    return [sys.executable, "-IS", str(PROGRAM), str(_folder() / "socket"), *map(str, program)]


def commands() -> Path:
    """A folder for the front of PATH, whose `diptych` is run so."""
    return _folder() / "bin"


@functools.cache
def start() -> Path:
    """Start the process; it ends with this one, and what it has started with it. The folder where it will listen."""
    folder = Path(tempfile.mkdtemp(prefix="dip"))  # a short path, as sockets want it
    (folder / "bin").mkdir()
    command = folder / "bin" / "diptych"
    command.write_text(DIPTYCH.format(python=sys.executable, program=PROGRAM, socket=folder / "socket"))
    command.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-u", str(PROGRAM), "serve", str(folder / "socket")],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    atexit.register(_end, process, folder, os.getpid())
    return folder


@functools.cache
def _folder() -> Path:
    """The folder of the process, once it listens there."""
    folder, until = start(), time.monotonic() + 600
    while not (folder / "socket").exists():
        assert folder.exists(), "the process that imports for others has ended"
        assert time.monotonic() < until
        time.sleep(0.05)
    return folder


def _end(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a worker that was forked after the start
        return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
