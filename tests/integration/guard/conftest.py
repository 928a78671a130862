"""A real HTTP server that serves a model, and can begin to serve another one behind the same name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from diptych.testing.fakes import FakeDenseEncoder, FakeSparseEncoder
from json_server import Reply, Request, json_server
from named_server import placed


class ModelServer:
    """Answers `/v1/embeddings`, `/embed` and `/embed_sparse` with the vectors of `dense` and `sparse`.

    `requests` holds the texts of each request; `change_after` more texts, another model is served. Texts longer than
    `longest` characters are answered with `refusal`, all after `delay` seconds.
    """

    def __init__(self) -> None:
        self.dense, self.sparse = FakeDenseEncoder(dimension=32), FakeSparseEncoder(dimension=1000)
        self.requests: list[list[str]] = []
        self.change_after: int | None = None
        self.longest, self.refusal, self.delay = 10**6, 400, 0.0
        self._lock, self._stack = threading.Lock(), ExitStack()
        self.url = self._stack.enter_context(json_server(self.reply))

    def become(self, seed: int) -> None:
        """Serve another model of the same dimension, under the same name."""
        self.dense = FakeDenseEncoder(dimension=32, seed=seed)
        self.sparse = FakeSparseEncoder(dimension=1000, expand={"cat": f"pet{seed}", "converter": f"tool{seed}"})

    def close(self) -> None:
        self._stack.close()

    def reply(self, request: Request) -> Reply:
        if request.body is None:
            return Reply({}, status=404)
        answer = self.answer(request.path, request.body)
        time.sleep(self.delay)
        too_long = any(len(text) > self.longest for text in request.body.get("input") or request.body.get("inputs"))
        return Reply(answer, self.refusal if too_long else 200)

    def answer(self, path: str, body: Any) -> Any:
        texts = body.get("input") or body.get("inputs")
        with self._lock:
            self.requests.append(texts)
            if self.change_after is not None:
                self.change_after -= len(texts)
                if self.change_after < 0:
                    self.change_after = None
                    self.become(seed=7)
            dense, sparse = self.dense, self.sparse
        if path == "/embed_sparse":
            rows = sparse.encode_document(texts)
            pairs = [zip(row.indices.tolist(), row.values.tolist(), strict=True) for row in rows]
            return [[{"index": index, "value": value} for index, value in row] for row in pairs]
        rows_of = dense.encode_document(texts).tolist()
        if path == "/embed":
            return rows_of
        return {"data": [{"index": n, "embedding": row} for n, row in enumerate(rows_of)]}


@pytest.fixture(params=["edge:", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a config says of an embedded store, and of a server of Qdrant."""
    with placed(request.param, tmp_path / "store", "c", "other") as found:
        yield found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ModelServer()
    yield running
    running.close()
