"""`mcp_server`: the MCP server over collections, over HTTP or over standard input and output."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from diptych.errors import MissingExtra

try:
    import mcp as _needed  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra(f"{__name__} needs mcp", got=str(error), do="pip install 'diptych[mcp]'") from error

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import Tool, ToolAnnotations
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych import __version__
from diptych.errors import ConfigError
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych_serve.agents.tools import Tools
from diptych_serve.service.admission import Gate
from diptych_serve.service.api_keys import Keys
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.limits import Limits
from diptych_serve.service.served import Served
from diptych_serve.service.shutdown import Ending

PATH = "/mcp"
LOCAL = ("localhost", "127.0.0.1", "[::1]")
_ANYWHERE = ("0.0.0.0", "::", "")
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, idempotent_hint=True, destructive_hint=True, open_world_hint=False)
_PAUSE = 0.02  # seconds between two looks at whether calls are under way


def mcp_server(served: Served, *, allow_populate: bool = False, tenant: str | None = None) -> AgentServer:
    """The server with its tools: `search`, `explain`, `info`, and `populate` if it is allowed.

    Args:
        served: open collections.
        allow_populate: whether documents may be brought in.
        tenant: whose documents alone are served; without, each call names one where one is needed.
    """
    tools = Tools(served, tenant=tenant)
    server = AgentServer(
        "diptych", title="diptych", instructions=_instructions(served), version=__version__, log_level="WARNING"
    )
    server.add_tool(tools.search, title="Search a collection", annotations=_READS)
    server.add_tool(tools.explain, title="Explain a search", annotations=_READS)
    server.add_tool(tools.info, title="List the collections", annotations=_READS)
    if allow_populate:
        server.add_tool(tools.populate, title="Bring documents in", annotations=_WRITES)
    return server


class AgentServer(MCPServer[Any]):
    """A server that refuses unknown tool arguments instead of ignoring them.

    `under_way` counts the calls of tools that are being answered. `listed` is called once, when a client has been
    answered and asks for the tools: what it starts does not delay the first answer.
    """

    under_way = 0
    listed: Callable[[], None] | None = None

    async def list_tools(self) -> list[Tool]:
        """The tools, with schemas that forbid further arguments."""
        if self.listed is not None:
            start, self.listed = self.listed, None
            start()
        tools = await super().list_tools()
        for tool in tools:
            tool.input_schema["additionalProperties"] = False
        return tools

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """The tool's answer.

        Raises:
            ToolError: an argument that it does not take, or a value that the argument cannot have.
        """
        parameters = {tool.name: tool.input_schema.get("properties", {}) for tool in await self.list_tools()}.get(name)
        if unknown := [] if parameters is None else [key for key in arguments if key not in parameters]:
            raise ToolError(f"{name} takes no argument {unknown[0]!r}\n  expected: {', '.join(parameters or ())}")
        self.under_way += 1
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if type(error) is not ToolError or not isinstance(error.__cause__, ValidationError):
                raise
            first = error.__cause__.errors(include_url=False)[0]
            problem = f"unusable argument {error_path(first)!r}\n  got: {actual_value(first)}"
            raise ToolError(f"{name}: {problem}\n  expected: {expectation(first, mapping='an object')}") from error
        finally:
            self.under_way -= 1


def http_application(
    server: MCPServer[Any],
    *,
    keys: Keys,
    host: str,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    concurrent: int = 64,
    limits: Limits | None = None,
) -> Gate:
    """The server as an ASGI application at `/mcp`, which checks key, Host and Origin.

    Args:
        server: what `mcp_server` made.
        keys: required of callers; without keys the server is open.
        host: the address that is listened on.
        hosts: further names by which it may be called.
        origins: web pages that may ask, beside those of this machine.
        concurrent: requests that are under way at once.
        limits: how large a body may be, and how slow.

    Raises:
        ConfigError: nobody could know by which name it is called.
    """
    names = [*LOCAL, *hosts, *([] if host in _ANYWHERE else [f"[{host}]" if ":" in host else host])]
    if host in _ANYWHERE and not hosts:
        raise ConfigError(
            "a wildcard address is not a host name",
            where=f"--host {host}",
            expected="the name that clients use",
            do="--allowed-host NAME",
        )
    security = TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[*(f"http://{name}:*" for name in LOCAL), *(f"http://{name}" for name in LOCAL), *origins],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, json_response=True, transport_security=security, host=host
    )
    limits = limits or Limits()
    posts = Posts(app, limit=limits.body, seconds=limits.body_seconds)
    return Gate(posts, keys=keys, concurrent=concurrent, hosts=[name.strip("[]") for name in names])


def _instructions(served: Served) -> str:
    names = ", ".join(served.collections)
    return (
        f"Search in collections of documents: {names}. Ask `info` first for how much they hold and which slots "
        "they have; `search` finds documents by meaning and words; `explain` says why a document was found or not."
    )


# `Posts`: lets only complete POST requests of bounded size and duration through to a server without sessions.


class Posts:
    """Refuses GET in front of the MCP application.

    A GET would open a stream for messages that the server starts by itself. A server without sessions has none, and
    streams of idle clients would occupy the slots of requests. So GET is answered with 405, as the protocol provides.

    Args:
        app: what answers.
        most: bytes of a body.
        seconds: time limit for receiving a body.
    """

    def __init__(self, app: ASGIApp, *, limit: int, seconds: float) -> None:
        self._app, self._limit, self._seconds = app, limit, seconds

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
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        return await self._app(scope, receive_again, send)

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "the client went away", code="disconnected")
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise Refused(
                    413,
                    f"the request's body is too large\n  expected: at most {self._limit} bytes",
                    code="request_too_large",
                    headers={"Connection": "close"},
                )
            if not message.get("more_body", False):
                return bytes(body)


def serve_stdio(server: AgentServer, close: Callable[[], None], *, grace: float) -> None:
    """Serve until standard input ends, or until SIGTERM or Ctrl-C; calls under way have `grace` seconds to end.

    After a signal the process ends here, because a thread is blocked reading standard input and cannot be interrupted.

    Args:
        server: what is served.
        close: closes what it holds.
        grace: seconds.
    """

    def orderly() -> None:
        while server.under_way:
            time.sleep(_PAUSE)
        close()

    ending = Ending(grace, orderly=orderly)

    def end(number: int, frame: FrameType | None) -> None:
        ending.begin(number)

    previous: dict[int, Any] = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run("stdio")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if server.under_way:
            ending.bound()
