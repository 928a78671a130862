"""`diptych serve --mcp` as a process, over stdio and over HTTP, asked by the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from diptych import Collection, Registry
from diptych.cli.app import main
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
from serving import ANIMALS, FAKES, until

CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense}
  lexical: {adapter: fake-sparse}
cache: {enabled: false}
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def folder(tmp_path: Path, fakes: Registry) -> Path:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    with Collection.open(tmp_path / "diptych.yaml", registry=fakes) as collection:
        collection.populate({"id": key, "text": text} for key, text in ANIMALS.items())
    return tmp_path


def environment(**further: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "DIPTYCH_API_KEY"}, **further}


def over_stdio(folder: Path, *args: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-c", FAKES, "serve", "--mcp", *args], cwd=folder, env=environment()
    )


async def asked(client: Any, **arguments: Any) -> list[str]:
    answer = await client.call_tool("search", {"query": "the warm cat", "limit": 2, **arguments})
    assert not answer.is_error, answer.content
    return [hit["id"] for hit in answer.structured_content["hits"]]


def test_over_stdio_the_tools_answer_and_the_store_is_free_afterwards(folder: Path, fakes: Registry) -> None:
    async def session() -> list[str]:
        async with Client(stdio_client(over_stdio(folder))) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["search", "explain", "info"]
            return await asked(client)

    found = asyncio.run(session())
    with Collection.open(folder / "diptych.yaml", registry=fakes, create=False) as again:
        assert found == [hit.id for hit in again.search("the warm cat", limit=2)]


def test_standard_output_carries_the_protocol_alone(folder: Path) -> None:
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    call = {"name": "search", "arguments": {"query": "cat"}}
    lines = [INITIALIZE, initialized, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}]
    with subprocess.Popen(
        [sys.executable, "-c", FAKES, "serve", "--mcp"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(json.dumps(line) + "\n" for line in lines)
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(120) == 0
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["structuredContent"]["hits"]
    assert rest == ""


def test_reading_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", FAKES, "serve", "--mcp"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "there is no embedded store" in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["diptych.yaml"]


@contextmanager
def over_http(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[tuple[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAKES, "serve", "--mcp", "--port", "0", *args],
        cwd=folder,
        env=environment(COLUMNS="200", **(env or {})),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://\S+/mcp", first)
        assert found, first + process.stderr.read()
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


def test_over_http_a_key_is_needed_and_the_end_is_in_order(folder: Path, fakes: Registry) -> None:
    async def session(url: str) -> list[str]:
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer k1"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await asked(client)

    with over_http(folder, env={"DIPTYCH_API_KEY": "k1"}) as (url, process):
        refused = httpx2.post(url, json=INITIALIZE, headers=ACCEPT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert asyncio.run(session(url))[0] == "cat"
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    with Collection.open(folder / "diptych.yaml", registry=fakes, create=False) as again:
        assert again.count() == 4


def test_over_http_strange_names_and_strange_pages_are_refused(folder: Path) -> None:
    with over_http(folder, "--allowed-host", "mine.example.org", "--cors-origin", "https://mine.example.org") as (
        url,
        _,
    ):

        def status(**headers: str) -> int:
            return httpx2.post(url, json=INITIALIZE, headers={**ACCEPT, **headers}).status_code

        assert status() == 200
        assert status(Host="mine.example.org") == 200
        for host in ("rebound.example.org", "localhost:evil", "mine.example.org:", "localhost:80:80", "evil@localhost"):
            assert status(Host=host) == 421
        assert status(Origin="https://evil.example.org") == 403
        assert status(Origin="https://mine.example.org") == 200
        assert status(Origin="http://localhost:3000") == 200


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    with pytest.raises(SystemExit) as left:
        main(["serve", "--mcp", "--json", *args], session=Session(Registry(installed=False)))
    assert left.value.code == 1
    return json.loads(capsys.readouterr().err)["error"]


def test_options_that_do_not_fit_say_so(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, fakes: Registry
) -> None:
    monkeypatch.delenv("DIPTYCH_API_KEY", raising=False)
    monkeypatch.chdir(folder)
    assert said(capsys, "--store", "memory:", "--allow-writes")["what"] == "--allow-writes needs configs"
    (folder / "diptych.yaml").write_text(CONFIG.replace("fake-dense", "none"))
    assert "none" in said(capsys)["what"]
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert said(capsys)["do"] == "pip install 'diptych[mcp]'"


def test_over_http_streams_are_refused_and_so_take_no_room(folder: Path) -> None:
    with over_http(folder) as (url, _), httpx2.Client(timeout=60) as client:
        for _ in range(100):
            answer = client.get(url, headers={"Accept": "text/event-stream"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert client.post(url, json=INITIALIZE, headers=ACCEPT).status_code == 200


def test_over_http_a_body_that_is_too_large_is_refused(folder: Path) -> None:
    with over_http(folder) as (url, _):
        answer = httpx2.post(url, content=b" " * 20_000_000, headers={**ACCEPT, "Content-Type": "application/json"})
        assert answer.status_code == 413


@contextmanager
def talking(folder: Path, *args: str) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """A server over stdio whose standard input stays open: a function that asks it, and the process."""
    with subprocess.Popen(
        [sys.executable, "-c", FAKES, "serve", "--mcp", *args],
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writes, reads = process.stdin, process.stdout

        def ask(message: Any) -> Any:
            writes.write(json.dumps(message) + "\n")
            writes.flush()
            return json.loads(reads.readline())

        try:
            yield ask, process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_over_stdio_a_signal_ends_the_server_though_its_input_stays_open(
    folder: Path, fakes: Registry, number: int, code: int
) -> None:
    with talking(folder) as (ask, process):
        assert ask(INITIALIZE)["result"]["serverInfo"]["name"] == "diptych"
        process.send_signal(number)
        assert process.wait(120) == code
    with Collection.open(folder / "diptych.yaml", registry=fakes, create=False) as again:
        assert again.count() == 4


def test_over_stdio_initialize_is_answered_before_models_are_loaded(folder: Path) -> None:
    log = folder / "calls.jsonl"
    text = CONFIG.replace("{adapter: fake-dense}", f"{{adapter: fake-dense, log: {log}}}")
    (folder / "diptych.yaml").write_text(text.replace("edge:./qdrant", "edge:./other"))
    with Collection.open(folder / "diptych.yaml", registry=Registry(fakes_plugin, installed=False)) as collection:
        collection.populate([{"id": "cat", "text": "the cat sleeps"}])
    log.unlink()
    with talking(folder) as (ask, _):
        assert ask(INITIALIZE)["id"] == 1
        assert not log.exists()
        assert ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}})["id"] == 2
        until(log.exists)  # and then they are, before anybody searches
