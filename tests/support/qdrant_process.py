"""A Qdrant server in a process of its own, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

BINARY = os.environ.get("DIPTYCH_TEST_SERVER_BINARY", "")
READY = 120.0  # seconds until a server that replays its log must answer


class QdrantProcess:
    """A server on loopback, of the binary that DIPTYCH_TEST_SERVER_BINARY names.

    Args:
        folder: where it keeps everything.
        first: where it is a node of a cluster: the address of the first node, "" for that one itself.
    """

    def __init__(self, folder: Path, first: str | None = None) -> None:
        self._folder, self._port, self._grpc_port = folder, _free_port(), _free_port()
        self._peer_port, self._first = _free_port(), first
        self.peer_url = f"http://127.0.0.1:{self._peer_port}"
        self.url, self.grpc_url = f"http://127.0.0.1:{self._port}", f"grpc://127.0.0.1:{self._grpc_port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = {
            "SERVICE__HOST": "127.0.0.1",
            "SERVICE__HTTP_PORT": str(self._port),
            "SERVICE__GRPC_PORT": str(self._grpc_port),
            "STORAGE__STORAGE_PATH": str(self._folder / "storage"),
            "STORAGE__SNAPSHOTS_PATH": str(self._folder / "snapshots"),
            "TELEMETRY_DISABLED": "true",
            "LOG_LEVEL": "WARN",
        }
        command = [BINARY]
        if self._first is not None:
            own |= {"CLUSTER__ENABLED": "true", "CLUSTER__P2P__PORT": str(self._peer_port)}
            command += ["--uri", self.peer_url, *(["--bootstrap", self._first] if self._first else [])]
        env = {**os.environ, **{f"QDRANT__{name}": value for name, value in own.items()}}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, env=env, stdout=log, stderr=log)
        due = time.monotonic() + READY
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > due:
                raise RuntimeError(f"the server does not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Within the block it answers nothing, as when its machine hangs."""
        assert self._process is not None, "it was started"
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until then its threads may answer a call or two
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def renew(self, folder: Path) -> None:
        """Go on as another server, with an empty folder."""
        self.kill()
        self._folder = folder
        self.start()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
