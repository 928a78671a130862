"""The holder of a store, its socket beside the store, the file that names it, and who may be at its other end.

`PATH/.address` holds JSON: `{"unix": SOCKET, "token": TOKEN}`, or `{"port": PORT, "token": TOKEN}` where there are no
Unix sockets. The token identifies the holder; at a port, requests must also send it.
"""

from __future__ import annotations

import hmac
import json
import math
import os
import secrets
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore
import httpx

from diptych.errors import StoreError, StoreUnavailable
from diptych.runtime.sockets import host_name

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych_edge.rest.routes import Request, Route, Routes

LOCAL, IDENTITY = "127.0.0.1", "/edge"
_RUNS = 256  # optimisations whose end may still be asked for
_LOOK = 5.0  # seconds that a question for the end of an optimisation waits

Answer = TypeVar("Answer")
LOOK = 5.0  # seconds after which it is looked at whether the holder is stopped
LIMITS = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60)

ADDRESS, SOCKET = ".address", ".socket"
LONGEST = 100  # bytes of a socket's path: the systems take 104 to 108 with the zero at the end
TOKEN_HEADER = "api-key"  # as Qdrant's own clients send theirs
HAS_UNIX = hasattr(socket, "AF_UNIX")
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Address:
    """A Unix socket, or a local port that requires the token."""

    unix: str = ""
    port: int = 0
    token: str = ""

    @property
    def url(self) -> str:
        """The address for display."""
        return f"unix:{self.unix}" if self.unix else f"http://127.0.0.1:{self.port}"

    def accepts(self, key: str | None) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest((key or "").encode(), self.token.encode())  # text would have to be ASCII

    def connect(self) -> socket.socket:
        """A connection.

        Raises:
            OSError: nobody listens.
        """
        if not self.unix:
            return socket.create_connection(("127.0.0.1", self.port), timeout=5)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self.unix)
        except BaseException:
            connection.close()
            raise
        return connection


def read_address(root: Path) -> Address | None:
    """The address written by the last holder of a store; None if there is none that can be trusted."""
    path = root / ADDRESS
    try:
        if os.name != "nt" and not _is_ours(path):
            return None
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        return Address(str(raw.get("unix", "")), int(raw.get("port", 0)), str(raw.get("token", "")))
    except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None


def _is_ours(path: Path) -> bool:
    """Whether only this user or root can have written it; root may open the stores of all users."""
    status = path.stat(follow_symlinks=False)
    return (status.st_uid in (os.getuid(), 0) or os.getuid() == 0) and not status.st_mode & (
        stat.S_IWGRP | stat.S_IWOTH
    )


def listen(root: Path) -> tuple[socket.socket, Address]:
    """Listen for other processes; returns the socket and its address, which is written beside the store.

    Raises:
        OSError: no socket can be created.
    """
    listener, address = _open_listener(root)
    content = {name: value for name in ("unix", "port", "token") if (value := getattr(address, name))}
    temporary = root / f"{ADDRESS}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        temporary.replace(root / ADDRESS)
    except BaseException:
        listener.close()
        for path in (temporary, Path(address.unix or temporary)):
            with suppress(OSError):
                path.unlink()
        raise
    return listener, address


def forget(root: Path, address: Address) -> None:
    """Remove the address file and the socket when the holder ends; those of another holder stay."""
    if read_address(root) not in (None, address):
        return
    for path in (root / ADDRESS, *([Path(address.unix)] if address.unix else ())):
        with suppress(OSError):
            path.unlink()


def _open_listener(root: Path) -> tuple[socket.socket, Address]:
    token = secrets.token_urlsafe(32)
    if HAS_UNIX:
        for choose_path in (lambda root: root / SOCKET, _in_runtime_folder):
            with suppress(OSError):  # a file system without sockets, such as some that containers share
                path = choose_path(root)
                if len(os.fsencode(path)) <= LONGEST:
                    return _unix_listener(path), Address(unix=str(path), token=token)
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    return listener, Address(port=listener.getsockname()[1], token=token)


def _unix_listener(path: Path) -> socket.socket:
    """A socket at `path` that only this user may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()  # of a holder that was killed; the lock says that there is no other
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        path.unlink(missing_ok=True)
        raise
    return listener


def _in_runtime_folder(root: Path) -> Path:
    """A place in a folder with a short path that only this user can access.

    Raises:
        OSError: another user owns it, or others can write to it.
    """
    configured = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(configured) if configured and os.access(configured, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / f"diptych-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder / f"{sha256(os.fsencode(root)).hexdigest()[:16]}.socket"


def may_connect(connection: socket.socket) -> bool:
    """Whether the process that connected is this user's, or root's."""
    user = _peer(connection)[1]
    return user is None or user in (os.getuid(), 0)


def may_serve(connection: socket.socket) -> bool:
    """Whether the listening process is this user's, or root's; root may connect to the holder of any store it opens."""
    user = _peer(connection)[1]
    return user is None or user in (os.getuid(), 0) or os.getuid() == 0


def is_stopped(connection: socket.socket) -> int | None:
    """The process at the other end, if it is stopped (SIGSTOP, Ctrl-Z, a debugger); None if not, or if unknown."""
    process = _peer(connection)[0]
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    return process if state in ("T", "t") else None


def _peer(connection: socket.socket) -> tuple[int | None, int | None]:
    """Process and user at the other end, where the system tells; else the mode of the socket's file must suffice."""
    option = getattr(socket, "SO_PEERCRED", None)  # Linux
    if option is None or connection.family != getattr(socket, "AF_UNIX", None):  # at a port the token decides
        return None, None
    process, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return process, user


def transport(address: Address) -> httpx.HTTPTransport:
    """A transport that connects only to the holder at `address`."""
    http_transport = httpx.HTTPTransport(uds=address.unix or None, limits=LIMITS)
    if address.unix:
        # httpx has no argument for a network backend, so its pool is replaced.
        http_transport._pool = httpcore.ConnectionPool(
            max_connections=LIMITS.max_connections,
            max_keepalive_connections=LIMITS.max_keepalive_connections,
            keepalive_expiry=LIMITS.keepalive_expiry,
            uds=address.unix,
            network_backend=_Backend(address),
        )
    return http_transport


class _Backend(httpcore.SyncBackend):
    def __init__(self, address: Address) -> None:
        self._address = address

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """A connection to the holder.

        Raises:
            ConnectError: nobody listens, or another user does.
        """
        try:
            connected = self._address.connect()
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not may_serve(connected):
            connected.close()
            raise httpcore.ConnectError("another user listens at the socket")
        return _Stream(connected)


class _Stream(httpcore.NetworkStream):
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self._wait_for(lambda: self._socket.recv(max_bytes), timeout)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        remaining = memoryview(buffer)
        try:
            while remaining:
                remaining = remaining[self._wait_for(lambda: self._socket.send(remaining), timeout) :]  # noqa: B023 - called at once
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def _wait_for(self, call: Callable[[], Answer], timeout: float | None) -> Answer:
        """The result of `call`, which waits for the holder; a holder that is stopped is not waited for.

        Raises:
            TimeoutError: nothing came in time.
            StoreUnavailable: the holder is stopped.
        """
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        # In slices of LOOK seconds: a stopped process keeps its sockets open, so waiting alone would not show it.
        while True:
            self._socket.settimeout(max(0.001, min(LOOK, end - time.monotonic())))
            try:
                return call()
            except TimeoutError:
                if (process := is_stopped(self._socket)) is not None:
                    raise StoreUnavailable(
                        "the process that holds the embedded store is stopped",
                        got=f"process {process} does not run",
                        do=f"let it go on (kill -CONT {process}), or end it: this process then takes over",
                        stopped=process,
                    ) from None
                if time.monotonic() >= end:
                    raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell the pool whether the other side has closed a kept connection."""
        return _is_readable(self._socket) if info == "is_readable" else None


def _is_readable(connected: socket.socket) -> bool:
    """Whether unexpected bytes, or the end of the stream, can be read."""
    try:
        connected.settimeout(0)
        connected.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class Holder:
    """Serves requests at the store's address until `close`.

    Args:
        root: the store.
        client: creates the `EdgeClient` that serves the calls, at the first connection.

    Raises:
        OSError: no socket can be created.
    """

    def __init__(self, root: Path, client: Callable[[], QdrantBase]) -> None:
        from diptych_edge.rest.server import RestServer

        self._root, self._client = root, client
        listener, self.address = listen(root)
        self._server = RestServer(listener, self._routes, admits=may_connect, permits=self._permits)
        self._server.start()

    def close(self) -> None:
        """Stop, after running requests have been answered."""
        forget(self._root, self.address)
        self._server.close()

    def leave_to_parent(self) -> None:
        """In a forked process: close the copies of the parent's sockets."""
        self._server.leave_to_parent()

    def _permits(self, handler: Any) -> bool:
        """At a Unix socket, the mode of its file and `may_connect` have decided."""
        return not self.address.port or self.address.accepts(handler.headers.get(TOKEN_HEADER))

    def _routes(self) -> Routes:
        from diptych_edge.rest.routes import Routes

        identity = {"token": self.address.token, "process": os.getpid(), "path": str(self._root)}
        return Routes(self._client(), {("GET", IDENTITY): lambda request: identity, **engine_routes()})


@contextmanager
def serve_at(port: int, client: QdrantBase, *, has_key: Callable[[str], bool] | None = None) -> Iterator[Address]:
    """Serve Qdrant's REST API at a local port until the end of the block; port 0 takes a free one.

    Requests must send the address's token in the header `api-key`: any user of the machine can connect to a port.

    Args:
        has_key: whether the value of that header is valid, in place of the token.

    Raises:
        StoreError: the port is taken.
    """
    from diptych_edge.rest import RestServer, Routes

    try:
        listener = socket.create_server((LOCAL, port), backlog=128)
    except OSError as error:
        do = "choose another port"
        raise StoreError("cannot listen at this port", where=f"{LOCAL}:{port}", got=error, do=do) from error
    address = Address(port=listener.getsockname()[1], token="" if has_key else secrets.token_urlsafe(32))

    def permits(handler: Any) -> bool:
        key = handler.headers.get(TOKEN_HEADER)
        if has_key is not None:
            return has_key(key or "")
        host = host_name(",".join(handler.headers.get_all("host", ())))
        return host in ("localhost", LOCAL) and "origin" not in handler.headers and address.accepts(key)

    server = RestServer(listener, lambda: Routes(client, engine_routes()), permits=permits)
    server.start()
    try:
        yield address
    finally:
        server.close()


def engine_routes() -> dict[tuple[str, str], Route]:
    """The calls of `EdgeClient` beyond Qdrant's interface, as routes below `/edge`."""
    # Another holder may be asked for a run of this one, so its numbers must not be those of others.
    prefix, numbers, runs = secrets.token_hex(4), count(1), dict[str, Future[bool]]()

    def optimize(request: Request) -> str:
        client: Any = request.client
        run_id = f"{prefix}-{next(numbers)}"
        runs[run_id] = client.optimize(request.name, wait=False)
        for oldest in list(runs)[:-_RUNS]:  # nobody has fetched their results
            runs.pop(oldest, None)
        return run_id

    def state(request: Request) -> dict[str, Any]:
        name, run_id = request.names
        run = runs.get(run_id)
        if run is None:
            raise StoreUnavailable("this process has no such optimisation", got=run_id, do="optimize again")
        try:
            built = run.result(_LOOK)
        except TimeoutError:
            running = request.client.get_optimizations(name).running
            return {"done": False, "built": False, "stage": running[0].progress.name if running else "done"}
        except BaseException:
            runs.pop(run_id, None)
            raise
        runs.pop(run_id, None)
        return {"done": True, "built": built, "stage": "done"}

    def of_client(method: str) -> Route:
        return lambda request: getattr(request.client, method)(request.name)

    return {
        ("GET", "/edge/collections/{}/metadata"): of_client("get_metadata"),
        ("GET", "/edge/collections/{}/needs_optimizing"): of_client("needs_optimizing"),
        ("POST", "/edge/collections/{}/optimize"): optimize,
        ("GET", "/edge/collections/{}/optimize/{}"): state,
    }
