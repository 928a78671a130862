"""A remote encoder that never answers one query: others are answered meanwhile, and Ctrl-C ends the program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diptych import Collection, Document
from diptych.errors import RemoteError
from diptych.search import Retrieve
from json_server import Reply, Request, json_server, vector_of
from serving import until

STUCK = "stuck"
CONFIG = """\
store: edge:./qdrant
collection: c
slots:
  dense:
    adapter: remote
    api: openai
    base_url: {url}/v1
    model: m
    dimension: 8
    timeout: {patience}
    query_deadline: {patience}
    deadline: {patience}
    batch_size: 2
  lexical: {{adapter: bm25, language: english}}
cache: {{enabled: false}}
"""


class Server:
    """Answers texts at once, but for those that hold the word `stuck`: not before it is told to."""

    def __init__(self) -> None:
        self.asked, self.let_go, self.url = threading.Event(), threading.Event(), ""

    def answer(self, request: Request) -> Reply:
        texts = request.body["input"]
        if any(STUCK in text for text in texts):
            self.asked.set()
            self.let_go.wait(300)
        data = [{"index": n, "embedding": vector_of(text)} for n, text in enumerate(texts)]
        return Reply({"data": data, "model": "m"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    with json_server(running.answer) as running.url:
        yield running
        running.let_go.set()


def written(folder: Path, server: Server, *, patience: float = 240.0) -> Path:
    path = folder / "diptych.yaml"
    path.write_text(CONFIG.format(url=server.url, patience=patience))
    return path


def filled(folder: Path, server: Server, *, patience: float = 240.0) -> Collection:
    collection = Collection.open(written(folder, server, patience=patience))
    collection.populate([Document(f"d{n}", f"word{n} and words") for n in range(4)])
    return collection


def test_queries_beside_a_stuck_one_are_answered(tmp_path: Path, server: Server) -> None:
    with filled(tmp_path, server) as collection, ThreadPoolExecutor(9) as threads:
        stuck = threads.submit(collection.search, f"{STUCK} words")
        assert server.asked.wait(60)
        lexical = [threads.submit(collection.search, "words", pipeline=Retrieve("lexical")) for _ in range(4)]
        hybrid = [threads.submit(collection.search, f"words {n}") for n in range(4)]
        assert all(len(ask.result(120)) == 4 for ask in lexical + hybrid)
        assert not stuck.done()
        server.let_go.set()
        assert len(stuck.result(120)) == 4


def test_coroutines_beside_a_stuck_one_are_answered(tmp_path: Path, server: Server) -> None:
    async def asked(collection: Collection) -> None:
        stuck = asyncio.ensure_future(collection.asearch(f"{STUCK} words"))
        assert await asyncio.to_thread(server.asked.wait, 60)
        lexical = [collection.asearch("words", pipeline=Retrieve("lexical")) for _ in range(4)]
        hybrid = [collection.asearch(f"words {n}") for n in range(4)]
        found = await asyncio.wait_for(asyncio.gather(*lexical, *hybrid), 120)
        assert all(len(hits) == 4 for hits in found)
        assert not stuck.done()
        server.let_go.set()
        assert len(await stuck) == 4

    with filled(tmp_path, server) as collection:
        asyncio.run(asked(collection))


def test_the_stuck_query_itself_ends_with_its_deadline(tmp_path: Path, server: Server) -> None:
    filled(tmp_path, server).close()

    def answers() -> bool:
        """Whether others are; asked again where a busy machine lets even this take a second."""
        try:
            return len(collection.search("words")) == 4
        except RemoteError:
            return False

    with Collection.open(written(tmp_path, server, patience=1.0)) as collection:
        with pytest.raises(RemoteError, match=r"no complete answer within 1 s|its deadline of 1 s"):
            collection.search(f"{STUCK} words")
        until(answers)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "command", [["search", f"{STUCK} words"], ["populate", "stuck.jsonl"], ["search", f"{STUCK} words", "--explain"]]
)
def test_ctrl_c_ends_a_command_whose_encoder_is_stuck(tmp_path: Path, server: Server, command: list[str]) -> None:
    filled(tmp_path, server).close()
    rows = "".join(f'{{"id": "s{n}", "text": "{STUCK} {n}"}}\n' for n in range(20))
    (tmp_path / "stuck.jsonl").write_text(rows)
    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *command], cwd=tmp_path, env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.asked.wait(120)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # at most two are needed
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in error
    with Collection.open(written(tmp_path, server)) as collection:
        assert len(collection.search("words", pipeline=Retrieve("lexical"))) == 4
