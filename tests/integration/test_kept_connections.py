"""Over a kept connection every answer's head is acknowledged before its body: a server like Qdrant waits for that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from qdrant_client import models

import diptych
from diptych.config import parse_config
from diptych.stores import open_store
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.options import RemoteOptions

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="this system has no TCP_QUICKACK")
CALLS = 3
ANSWERS: dict[str, Any] = {
    "/": {"title": "qdrant", "version": "1.19.0", "commit": ""},
    "/collections": {"result": {"collections": []}},
    "/collections/c": {"result": {}},
    "/collections/c/points": {"result": {"operation_id": 1, "status": "completed"}},
    "/collections/c/points/query": {"result": {"points": []}},
    "/collections/c/points/scroll": {"result": {"points": []}},
}


class Heads:
    """Sockets of clients, and whether each has acknowledged the head of the answer that it is being sent."""

    def __init__(self) -> None:
        self._acknowledged: dict[int, threading.Event] = {}
        self.paths: list[str] = []
        self.late: list[str] = []  # whose heads were not acknowledged

    def of(self, port: int) -> threading.Event:
        return self._acknowledged.setdefault(port, threading.Event())


def play(connection: socket.socket, received: BinaryIO, heads: Heads) -> None:
    """Answer requests on one connection, each body only after the head of its answer has been acknowledged."""
    acknowledged = heads.of(connection.getpeername()[1])
    while line := received.readline():
        path, length = line.split()[1].decode().partition("?")[0], 0
        while (header := received.readline().lower()).strip():
            length = int(header.split(b":")[1]) if header.startswith(b"content-length") else length
        received.read(length)
        body = json.dumps({"status": "ok", "time": 0.0, **ANSWERS.get(path, {})}).encode()
        acknowledged.clear()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        if not acknowledged.wait(2):
            heads.late.append(path)
        heads.paths.append(path)
        connection.sendall(body)


@contextmanager
def waiting_server(heads: Heads, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that waits for acknowledgements."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    accepted, _ = listener.accept()
                    threading.Thread(target=answer, args=(accepted,), daemon=True).start()

        def answer(accepted: socket.socket) -> None:
            with contextlib.suppress(OSError):
                connection = context.wrap_socket(accepted, server_side=True) if context else accepted
                with connection, connection.makefile("rb") as received:
                    play(connection, received, heads)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> Heads:
    known, set_option = Heads(), socket.socket.setsockopt

    def recorded(self: socket.socket, *option: Any) -> None:
        set_option(self, *option)
        if option == (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1):
            known.of(self.getsockname()[1]).set()

    monkeypatch.setattr(socket.socket, "setsockopt", recorded)
    return known


@pytest.fixture(params=["http", "https"])
def url(request: pytest.FixtureRequest, heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    context = None
    if request.param == "https":
        if not shutil.which("openssl"):
            pytest.skip("no openssl makes a certificate")
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with waiting_server(heads, context) as address:
        yield address


def searched(client: Any) -> None:
    client.query_points("c", [1.0, 0.0])


def written(client: Any) -> None:
    client.upsert("c", [models.PointStruct(id=1, vector={"dense": np.ones(2)})])


def scrolled(client: Any) -> None:
    client.scroll("c")


def uploaded(client: Any) -> None:
    client.upload_points("c", [models.PointStruct(id=1, vector=[1.0, 0.0])], wait=True)


@pytest.mark.parametrize("call", [searched, written, scrolled, uploaded])
def test_a_store_acknowledges_the_head_of_each_answer(url: str, heads: Heads, call: Callable[[Any], None]) -> None:
    with closing(open_store(url)) as client:
        for _ in range(CALLS):
            call(client)
    assert len(heads.paths) > CALLS
    assert heads.late == []


def test_a_client_for_inference_acknowledges_the_head_of_each_answer(url: str, heads: Heads) -> None:
    with closing(diptych.client(url, check_compatibility=False)) as client:
        for call in (searched, written, scrolled, uploaded) * CALLS:
            call(client)
    assert (len(heads.paths), heads.late) == (4 * CALLS, [])


@pytest.mark.parametrize("own", [False, True], ids=["qdrant-client's URL", "our URL"])
def test_an_asyncio_client_acknowledges_the_head_of_each_answer(url: str, heads: Heads, own: bool) -> None:
    async def use() -> None:
        slots = {"lexical": {"adapter": "bm25", "language": "english"}}
        config = parse_config({"store": url, "collection": "c", "slots": slots}) if own else None
        client = diptych.async_client(None if own else url, config=config)
        for _ in range(CALLS):
            await client.query_points("c", [1.0, 0.0])
        uploaded(client)
        await client.close()

    asyncio.run(use())
    assert len(heads.paths) > CALLS
    assert heads.late == []


def test_a_remote_encoder_acknowledges_the_head_of_each_answer(url: str, heads: Heads) -> None:
    endpoint = Endpoint(RemoteOptions(base_url=url), name="remote")
    for _ in range(CALLS):
        endpoint.post("/embeddings", {"input": ["text"]})
    assert (len(heads.paths), heads.late) == (CALLS, [])
