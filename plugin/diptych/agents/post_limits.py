"""`Posts`: lets only complete POST requests of bounded size and duration through to a server without sessions."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych.service.error_answers import Refused


class Posts:
    """Stands before the MCP application.

    A GET would open a stream for messages that the server starts by itself. A server without sessions has none, and
    streams of idle clients would occupy the slots of requests. So GET is answered with 405, as the protocol provides.

    Args:
        app: what answers.
        most: bytes of a body.
        seconds: time limit for receiving a body.
    """

    def __init__(self, app: ASGIApp, *, most: int, seconds: float) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if scope["method"] != "POST":
                raise Refused(
                    405,
                    f"no {scope['method'][:16]} here\n  expected: POST",
                    code="method_not_allowed",
                    headers={"Allow": "POST"},
                )
            async with asyncio.timeout(self._seconds):
                body = await self._body(receive)
        except TimeoutError:
            slow = Refused(408, f"the body did not come within {self._seconds:g} s", code="timeout")
            return await slow.response()(scope, receive, send)
        except Refused as refused:
            return await refused.response()(scope, receive, send)
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return await self._app(scope, again, send)

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "the client went away", code="disconnected")
            body += message.get("body", b"")
            if len(body) > self._most:
                raise Refused(
                    413,
                    f"the request's body is too large\n  expected: at most {self._most} bytes",
                    code="request_too_large",
                    headers={"Connection": "close"},
                )
            if not message.get("more_body", False):
                return bytes(body)
