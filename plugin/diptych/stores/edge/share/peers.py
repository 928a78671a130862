"""Checks who is at the other end of a Unix socket: only the same user, or root, may connect or serve."""

from __future__ import annotations

import os
import socket
import struct


def may_ask(accepted: socket.socket) -> bool:
    """Whether the process that connected is this user's, or root's."""
    user = _user(accepted)
    return user is None or user in (os.getuid(), 0)


def may_answer(connected: socket.socket) -> bool:
    """Whether the listening process is this user's, or root's; root may connect to the holder of any store it opens."""
    user = _user(connected)
    return user is None or user in (os.getuid(), 0) or os.getuid() == 0


def _user(connected: socket.socket) -> int | None:
    """The user at the other end; None if the system cannot tell, and the mode of the socket's file must suffice."""
    if connected.family != getattr(socket, "AF_UNIX", None):
        return None  # loopback, where the token decides
    option = getattr(socket, "SO_PEERCRED", None)  # Linux
    if option is None:
        return None
    credentials = connected.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)
