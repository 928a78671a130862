"""A real HTTP server with an OpenAI-compatible `/chat/completions`, which answers what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_server import Reply, Request, json_server


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

    def answer(self, request: Request) -> Reply:
        """The answer to a request."""
        key = request.headers.get("authorization", "")
        self.bodies.append(request.body)
        self.keys.append(key)
        if self.refusals:
            return Reply({"error": f"not now, {key}"}, self.refusals.pop(0))
        content = {"choices": [{"message": {"role": "assistant", "content": self.say(request.body)}}]}
        return Reply(content, 200 if request.path == "/v1/chat/completions" else 404)


@contextmanager
def chat_server(say: Callable[[dict[str, Any]], Any], *, refusals: list[int] | None = None) -> Iterator[ChatServer]:
    """A server that is up until the end of the block."""
    state = ChatServer(say, list(refusals or []))
    with json_server(state.answer) as address:
        state.url = f"{address}/v1"
        yield state
