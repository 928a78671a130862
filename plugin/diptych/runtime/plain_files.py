"""Opens files in folders that may come from somebody else, who may have put links, pipes or devices there.

`is_local_folder` recognises the folders of qdrant-client's local mode.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LOCAL_MODE = "meta.json"  # what qdrant-client's local mode writes, and a server too
SERVER = "raft_state.json"  # what only a server writes


def plain_file(path: str, flags: int) -> int:
    """`regular_file` that is no link either.

    Raises:
        OSError: it is a link, a pipe or a device, or the system refuses.
    """
    return regular_file(path, flags | getattr(os, "O_NOFOLLOW", 0))


def regular_file(path: str, flags: int) -> int:
    """The `opener` of `open(...)` for a regular file, or a link to one; a new file is its user's alone.

    Raises:
        OSError: it is a pipe or a device, which could be waited for and read without an end, or the system refuses.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def is_local_folder(path: Path) -> bool:
    """Whether qdrant-client's local mode created the folder."""
    return (path / LOCAL_MODE).is_file() and not (path / SERVER).exists()
