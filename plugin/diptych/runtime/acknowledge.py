"""`acknowledge`: an httpx event hook without which a kept connection stalls for 40 ms at each answer.

A server that sends the head of its answer and then the body, as Qdrant does, without TCP_NODELAY, holds the body back
until the head is acknowledged. On a connection that has been used before, the kernel delays that acknowledgement.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx

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
