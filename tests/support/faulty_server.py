"""A server on a raw socket that answers with the bytes, and at the pace, that it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Script = Callable[[socket.socket], None]  # what happens once a request has been read


@contextmanager
def faulty_server(script: Script, *, reads: bool = True) -> Iterator[str]:
    """The address of a server that plays `script` for each request on each connection.

    Args:
        script: what it sends; the connection is closed when it returns.
        reads: read a request before the script.
    """
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    connection, _ = listener.accept()
                    threading.Thread(target=_play, args=(connection, script, reads, over), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def _play(connection: socket.socket, script: Script, reads: bool, over: threading.Event) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(30)
        if reads:
            _read_request(connection)
        script(connection)


def _read_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536) or _closed()
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65_536) or _closed()


def _closed() -> bytes:
    raise OSError("the client is gone")


def send(*parts: bytes) -> Script:
    """Send the parts and close."""

    def script(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return script


def answer(status: str, body: object) -> Script:
    """Send JSON with this status and close."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    return send(f"{head}connection: close\r\n\r\n".encode(), content)


def done(result: object) -> Script:
    """Send a result as Qdrant does and close."""
    return answer("200 OK", {"result": result, "status": "ok", "time": 0.0})


def drip(first: bytes, then: bytes, *, every: float) -> Script:
    """Send `first`, and then one byte of `then` after the other, from its start again when it ends."""

    def script(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            for byte in then:
                connection.sendall(bytes([byte]))
                time.sleep(every)

    return script


def flood(first: bytes, then: bytes) -> Script:
    """Send `first`, and `then` again and again, as fast as it is taken."""

    def script(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(then)

    return script


def hang(first: bytes = b"") -> Script:
    """Send `first`, then nothing, and leave the connection open until the client closes it."""

    def script(connection: socket.socket) -> None:
        connection.sendall(first)
        while connection.recv(65_536):
            pass

    return script


def reset(first: bytes = b"") -> Script:
    """Send `first` and break the connection off."""

    def script(connection: socket.socket) -> None:
        connection.sendall(first)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    return script
