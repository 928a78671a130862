"""What servers and clients here do by hand: read from a socket until a deadline, and read the header Host.

`acknowledge` is an httpx event hook without which a kept connection stalls for 40 ms at each answer: a server that
sends the head of its answer and then the body, as Qdrant does, without TCP_NODELAY, holds the body back until the head
is acknowledged. On a connection that has been used before, the kernel delays that acknowledgement.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]\\]+)(?::[0-9]{1,5})?")


def host_name(header: str) -> str:
    """The host in the header Host, in lower case and without port and brackets; empty if it is no plain host."""
    plain = _HOST.fullmatch(header)
    return plain[1].strip("[]").lower() if plain else ""


class TimedReader(io.RawIOBase):
    """Everything that is read comes before one deadline: with a timeout for each piece, a peer that drips could go on.

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


_OPTION = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


class acknowledge:  # noqa: N801  # a hook, which `httpx.Client` calls and `httpx.AsyncClient` calls and awaits
    """Have the kernel acknowledge what has arrived: called with a response whose body has not been read.

    The option holds until the connection's next request, so it is set for each response.
    """

    def __init__(self, response: httpx.Response) -> None:
        stream = response.extensions.get("network_stream")
        connected = stream and stream.get_extra_info("socket")
        if _OPTION is not None and connected is not None:
            with contextlib.suppress(OSError):  # closed by now, or no TCP
                connected.setsockopt(socket.IPPROTO_TCP, _OPTION, 1)

    def __await__(self) -> Iterator[None]:
        return iter(())


EVENT_HOOKS: dict[str, list[Callable[..., Any]]] = {"response": [acknowledge]}
