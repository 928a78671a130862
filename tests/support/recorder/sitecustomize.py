"""Python imports this at its start where the folder is on PYTHONPATH: records what leaves the process.

Each line of the file that RECORD names is `network WHERE` or `write PATH`, also of the Python processes that it starts.
Native libraries are not seen; the tests look at HOME and, where strace is there, at system calls for them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LOOPBACK = ("127.", "::1", "localhost")


def _said(event: str, arguments: tuple[Any, ...]) -> str | None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
        return f"network {host}" if host and not str(host).startswith(LOOPBACK) else None
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        return None if str(arguments[1][0]).startswith(LOOPBACK) else f"network {arguments[1]}"
    if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & WRITES:
        return f"write {os.path.abspath(os.fsdecode(arguments[0]))}"
    if event == "os.mkdir":
        return f"write {os.path.abspath(os.fsdecode(arguments[0]))}"
    return None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if line := _said(event, arguments):
        os.write(_file, f"{line}\n".encode())


if "RECORD" in os.environ:
    _file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(_record)
