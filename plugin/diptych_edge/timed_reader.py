"""Reads from a socket until a deadline: with a timeout for each piece, a peer that drips could hold a thread."""

from __future__ import annotations

import io
import math
import socket
import time
from typing import Any


class TimedReader(io.RawIOBase):
    """Everything that is read comes before one deadline.

    Args:
        connected: the socket that is read.
        owner: the file that keeps the socket open, which is closed with this one.
    """

    def __init__(self, connected: socket.socket, owner: Any = None) -> None:
        self._socket, self._owner, self._end, self._rate = connected, owner, 0.0, math.inf

    def allow(self, seconds: float, *, rate: float = math.inf) -> None:
        """Set a deadline in so many seconds; each `rate` bytes that come extend it by a second."""
        self._end, self._rate = time.monotonic() + seconds, rate

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; none at the end.

        Raises:
            TimeoutError: the time is over.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline is over")
        self._socket.settimeout(remaining)
        count = self._socket.recv_into(buffer)
        self._end += count / self._rate
        return count

    def close(self) -> None:
        """Close the owner."""
        super().close()
        if self._owner is not None:
            self._owner.close()
