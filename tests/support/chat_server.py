"""A real HTTP server with an OpenAI-compatible `/chat/completions`, which answers what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """Requests that came, and how they are answered.

    `say` makes the answer's text of the body; `refusals` are statuses that are answered first.
    """

    say: Callable[[dict[str, Any]], Any]
    refusals: list[int] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, key: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and content of the answer."""
        self.bodies.append(body)
        self.keys.append(key)
        if self.refusals:
            return self.refusals.pop(0), {"error": f"not now, {key}"}
        return 200, {"choices": [{"message": {"role": "assistant", "content": self.say(body)}}]}


@contextmanager
def chat_server(say: Callable[[dict[str, Any]], Any], *, refusals: list[int] | None = None) -> Iterator[ChatServer]:
    """A server that is up until the end of the block."""
    state = ChatServer(say, list(refusals or []))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
            status, content = state.answer(self.headers.get("authorization", ""), body)
            status = status if self.path == "/v1/chat/completions" else 404
            payload = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        state.url = f"http://127.0.0.1:{listening.server_port}/v1"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            listening.shutdown()
            thread.join()
