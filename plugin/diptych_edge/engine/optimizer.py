"""Builds the indexes of the shard in a folder: `python optimizer.py FOLDER PARENT`, a process of its own.

EdgeShard.optimize() keeps Python's global lock for as long as it runs, so no serving process calls it. Run by path, so
that it imports nothing of diptych. Its exit code: 0 something was built, 3 there was nothing to build, else it failed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import qdrant_edge as edge

UNCHANGED = 3
NICENESS = 10  # searches of the serving process come first
_PR_SET_PDEATHSIG = 1  # from Linux's sys/prctl.h


def main(folder: str, parent: int) -> int:
    """Build what is missing; the exit code says whether anything was."""
    _end_with(parent)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    shard = edge.EdgeShard.load(folder)
    changed = shard.optimize()
    shard.flush()
    shard.close()
    return 0 if changed else UNCHANGED


def _end_with(parent: int) -> None:
    """Die with the parent: nobody else would wait for the result."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed before that was said
            sys.exit("the process that wanted this is gone")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
