"""Clients that connect and are slow, idle or too many, and packets that go at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from diptych import Registry
from serving import animals, served, until


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def small(*more: Route) -> Starlette:
    return Starlette(routes=[Route("/", hello, methods=["GET", "POST"]), *more])


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def received(own: socket.socket, *, until: bytes) -> bytes:
    """What comes, up to these bytes."""
    found = b""
    while until not in found:
        part = own.recv(4096)
        assert part, f"the connection was closed after {found!r}"
        found += part
    return found


def is_closed(own: socket.socket) -> bool:
    """Whether the server closes the connection within the socket's time-out."""
    try:
        return own.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_headers_that_drip_end_the_connection() -> None:
    with served(small(), header_seconds=0.5) as url, connected(url) as own:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000:
                own.sendall(bytes([byte]))
                time.sleep(0.02)
                if time.monotonic() - began > 20:
                    break
        assert time.monotonic() - began < 20


def test_a_kept_connection_answers_again_and_is_closed_when_it_is_idle() -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def answers(own: socket.socket) -> bool:
        """Whether it answers three times; asked again where a busy machine let more than the second go by."""
        begun = time.monotonic()
        try:
            for _ in range(3):
                own.sendall(request)
                assert received(own, until=b"hello").startswith(b"HTTP/1.1 200")
        except (AssertionError, ConnectionError):
            if time.monotonic() - begun < 1:
                raise
            return False
        return True

    with served(small(), header_seconds=1, idle_seconds=1) as url, ExitStack() as stack:
        while not answers(own := stack.enter_context(connected(url))):
            pass
        own.sendall(request[:10])  # another request begins, and its rest never comes
        while not is_closed(own):
            pass


HANGING = """\
import sys
import panicking
from diptych import Registry
from diptych.cli import main
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
main(sys.argv[1:], session=Session(Registry(fakes_plugin, panicking, installed=False)))
"""


@contextmanager
def hanging(
    folder: Path, registry: Registry, *args: str, while_loading: bool = False
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A service whose encoder hangs in a request, or while it is loaded, and that is ready to be told to end."""
    slots = {"dense": {"adapter": "panicking", "on": str(folder)}}
    animals(folder, registry, slots=slots, search={}).close()
    config = {
        "store": f"edge:{folder / 'qdrant'}",
        "collection": "animals",
        "slots": slots,
        "cache": {"enabled": False},
    }
    (folder / "diptych.yaml").write_text(json.dumps(config))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if while_loading:
        (folder / "hang").touch()
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, *args], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                text += process.stdout.readline()
            yield json.loads(text)["url"], process
        finally:
            process.kill()


@pytest.fixture
def panicky() -> Registry:
    import panicking
    from diptych.testing import fakes_plugin

    return Registry(fakes_plugin, panicking, installed=False)


def hang(folder: Path, url: str) -> None:
    """Have a request wait in the encoder for ever."""
    until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    (folder / "hang").touch()
    with contextlib.suppress(httpx.TimeoutException):
        httpx.post(f"{url}/search", json={"query": "who hangs"}, timeout=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "grace", "code", "while_loading"),
    [
        ([signal.SIGTERM], "1", 0, False),  # without a bound it never ends
        ([signal.SIGINT], "1", 130, False),
        ([signal.SIGINT, signal.SIGINT], "3600", 130, False),
        ([signal.SIGTERM], "3600", 0, True),
        ([signal.SIGINT], "3600", 130, True),
    ],
)
def test_the_end_waits_for_the_grace_of_requests_but_for_no_second_signal_and_no_model_that_is_loaded(
    tmp_path: Path, panicky: Registry, signals: list[int], grace: str, code: int, while_loading: bool
) -> None:
    args = ("serve", "--port", "0", "--json", "--grace", grace)
    with hanging(tmp_path, panicky, *args, while_loading=while_loading) as (url, process):
        if while_loading:
            assert httpx.get(f"{url}/readyz", timeout=60).json() == {"status": "starting"}
        else:
            hang(tmp_path, url)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.5)
        assert process.wait(120) == code
