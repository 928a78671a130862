"""A real HTTP server that answers as the remote services do, or misbehaves as it is told to."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

DIMENSION = 8
WORDS = ["convert", "audio", "files", "editor"]


@dataclass(frozen=True)
class Seen:
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Reply:
    """A misbehaviour: what is answered instead of, or how late, the right answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    beside: int = 0  # answered once there were so many requests at once
    hang_up: bool = False
    change: Callable[[Any], Any] = lambda answer: answer


class Service:
    """The server: its address, the requests it has seen, and the replies that come before it behaves again."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.replies: list[Reply] = []
        self.most_at_once = 0
        self.once = False  # whether each connection is closed instead of answering its second request
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._at_once = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return self.replies.pop(0) if self.replies else Reply()

    def done(self) -> None:
        with self._lock:
            self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            answered = 0  # on this connection

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                raw = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.path, headers, json.loads(raw) if raw else None)
                reply = service.take(seen)
                try:
                    service.closing.wait(reply.delay)
                    while service.most_at_once < reply.beside:
                        time.sleep(0.005)
                    self._send(seen, reply)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client did not wait
                finally:
                    service.done()

            def _send(self, seen: Seen, reply: Reply) -> None:
                self.answered += 1
                if reply.hang_up or (service.once and self.answered > 1):
                    self.close_connection = True
                    return
                answer = right_answer(seen)
                status = 404 if answer is None and reply.body is None else reply.status
                body = reply.body if reply.body is not None else json.dumps(reply.change(answer)).encode()
                self.send_response(status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler


def vector_of(text: str) -> list[float]:
    """The vector that the server's model has for `text`: the mean of its words', and a little of the whole text's."""
    words = [_hashed(word) for word in re.findall(r"\w+", text.lower())]
    mean = np.mean(words, axis=0) if words else np.zeros(DIMENSION)
    return [float(np.float32(number)) for number in mean + 0.01 * _hashed(text)]


def score_of(query: str, text: str) -> float:
    """The score that the server's reranker has for a pair."""
    one, other = np.array(vector_of(query)), np.array(vector_of(text))
    return float(np.float32(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))


def _hashed(text: str) -> NDArray[np.float64]:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.frombuffer(digest, np.uint8).astype(np.float64)[:DIMENSION] / 128 - 1


def right_answer(seen: Seen) -> Any:
    answers: dict[str, Callable[[Any], Any]] = {
        "/v1/embeddings": _openai,
        "/embed": lambda body: [vector_of(text) for text in body["inputs"]],
        "/embed_sparse": lambda body: [_sparse(text) for text in body["inputs"]],
        "/decode": lambda body: [_word(ids[0]) for ids in body["ids"]],
        "/rerank": lambda body: _ranked(body["query"], body["texts"], "score"),
        "/v1/chat/completions": _yes_or_no,
        "/v1/rerank": lambda body: {"results": _ranked(body["query"], body["documents"], "relevance_score")},
        "/info": lambda body: {
            "model_id": "org/model", "model_sha": "abc", "model_dtype": "float16", "max_input_length": 512,
        },
    }  # fmt: skip
    return answers[seen.path](seen.body) if seen.path in answers else None


def _openai(body: Any) -> Any:
    width = body.get("dimensions") or DIMENSION
    vectors = [vector_of(text)[:width] for text in body["input"]]
    if body.get("encoding_format") == "base64":
        encoded: list[Any] = [base64.b64encode(np.array(row, "<f4").tobytes()).decode() for row in vectors]
        vectors = encoded
    data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(vectors)]
    return {"object": "list", "data": data, "model": body["model"]}


def _yes_or_no(body: Any) -> Any:
    """The answer of a chat model whose log-odds of yes are the pair's score, and its most probable tokens."""
    asked = body["messages"][-1]["content"]
    query, document = asked.partition("\n\nQuery: ")[2].split("\n\nDocument: ", 1)
    odds = score_of(query, document)
    yes = 0.8 / (1 + math.exp(-odds))
    listed = {"Yes": yes * 0.75, " yes": yes * 0.25, "no": 0.8 - yes, "Maybe": 0.2}
    ranked = sorted(listed, key=lambda token: -listed[token])
    tokens = [{"token": token, "logprob": math.log(listed[token])} for token in ranked][: body["top_logprobs"]]
    first = {**tokens[0], "top_logprobs": tokens}
    message = {"role": "assistant", "content": tokens[0]["token"]}
    return {"choices": [{"index": 0, "message": message, "logprobs": {"content": [first]}}]}


def _sparse(text: str) -> list[dict[str, float]]:
    """The four known words weigh by their place, other long words 1; unsorted, as servers answer."""
    words = {word for word in re.findall(r"\w+", text.lower()) if len(word) > 2}
    known = {WORDS.index(word): 1.0 + WORDS.index(word) for word in words if word in WORDS}
    others = {len(WORDS) + zlib.crc32(word.encode()) % 30_000: 1.0 for word in words if word not in WORDS}
    return [{"index": n, "value": value} for n, value in sorted((known | others).items(), reverse=True)]


def _word(term: int) -> str:
    return WORDS[term] if term < len(WORDS) else f"word{term}"


def _ranked(query: str, texts: list[str], name: str) -> list[dict[str, float]]:
    scored = [{"index": n, name: score_of(query, text)} for n, text in enumerate(texts)]
    return sorted(scored, key=lambda item: -item[name])


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Service()
    yield running
    running.close()


@pytest.fixture
def other_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Service()
    yield running
    running.close()


@pytest.fixture(name="reply")
def reply_fixture() -> type[Reply]:
    return Reply


@pytest.fixture(name="vector_of")
def vector_of_fixture() -> Callable[[str], list[float]]:
    return vector_of


@pytest.fixture(name="score_of")
def score_of_fixture() -> Callable[[str, str], float]:
    return score_of
