"""Checks who is at the other end of a Unix socket: only the same user, or root, may connect or serve."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path


def may_connect(connection: socket.socket) -> bool:
    """Whether the process that connected is this user's, or root's."""
    user = _user(connection)
    return user is None or user in (os.getuid(), 0)


def may_serve(connection: socket.socket) -> bool:
    """Whether the listening process is this user's, or root's; root may connect to the holder of any store it opens."""
    user = _user(connection)
    return user is None or user in (os.getuid(), 0) or os.getuid() == 0


def is_stopped(connection: socket.socket) -> int | None:
    """The process at the other end, if it is stopped (SIGSTOP, Ctrl-Z, a debugger); None if not, or if unknown."""
    process = _peer(connection)[0]
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    return process if state in ("T", "t") else None


def _user(connection: socket.socket) -> int | None:
    """The user at the other end; None if the system cannot tell, and the mode of the socket's file must suffice."""
    return _peer(connection)[1]


def _peer(connection: socket.socket) -> tuple[int | None, int | None]:
    """Process and user at the other end, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)  # Linux
    if option is None or connection.family != getattr(socket, "AF_UNIX", None):  # at a port the token decides
        return None, None
    process, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return process, user
