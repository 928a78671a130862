"""The MCP server: offers collections to language models as tools. Run by `diptych mcp`; needs `diptych[mcp]`.

`mcp_server` builds the server; `Tools` has what a model can call, and the model reads its docstrings. Collections and
keys are those of `diptych_serve.service`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeAlias, Unpack

from diptych.errors import ConfigError, DiptychError, MissingExtra, TenantError

try:
    import mcp as _needed  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra(f"{__name__} needs mcp", got=str(error), do="pip install 'diptych[mcp]'") from error

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import Tool, ToolAnnotations
from pydantic import BaseModel, Field, RootModel, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych import Collection, __version__
from diptych.media import Modality
from diptych.reports import PopulateReport
from diptych.runtime.panics import is_panic
from diptych.runtime.validation_messages import actual_value, error_path, expectation
from diptych.search import ExplainOptions, Pipeline, SearchOptions, spelled_out
from diptych.search.options import description_of
from diptych.types import Document
from diptych_serve.service.access import Keys, Limits
from diptych_serve.service.admission import Gate, Refused
from diptych_serve.service.answers import CollectionDescription, ExplainedDocument, FoundDocument, populated
from diptych_serve.service.requests import (
    REMOTE_OPTIONS,
    accepted,
    example_texts,
    question_of,
    read_body,
    require_inline,
    require_question,
    require_words,
)
from diptych_serve.service.served import Served
from diptych_serve.service.server import Ending

MOST_HITS, MOST_EXPLAINED, MOST_DOCUMENTS, MOST_CHARACTERS = 100, 20, 1000, 100_000
CollectionName: TypeAlias = Annotated[
    str | None, Field(description="Name of the collection, as `info` lists it. May be left out when there is only one.")
]
QueryText: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MOST_CHARACTERS, description="What to look for: words, a phrase or a question.")
]
TenantName: TypeAlias = Annotated[str | None, Field(description="Tenant whose documents they are.")]
MediaOfQuery: TypeAlias = Annotated[
    dict[Modality, str] | None,
    Field(
        description="An image or other media to search for, with or without words, in collections with slots that read "
        'media: by modality a data: URI, such as {"image": "data:image/png;base64,..."}.'
    ),
]
Ids: TypeAlias = Annotated[
    list[str] | None, Field(max_length=MOST_EXPLAINED, description="Explain these documents instead of the hits.")
]
TextLength: TypeAlias = Annotated[
    int, Field(ge=0, description="Maximum characters returned of each text; a cut text ends with an ellipsis.")
]
SyncFlag: TypeAlias = Annotated[bool, Field(description="Delete all other documents of the collection.")]
DryRun: TypeAlias = Annotated[bool, Field(description="Only count what would change; write nothing.")]
YesFlag: TypeAlias = Annotated[
    bool,
    Field(description="Let `sync` delete more than the config allows (default: a fifth), and documents lose media."),
]
LOG = logging.getLogger("diptych.agents")
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
    instructions = (
        f"Search in collections of documents: {', '.join(served.collections)}. Ask `info` first for how much they hold "
        "and which slots they have; `search` finds documents by meaning and words; `explain` says why a document was "
        "found or not."
    )
    server = AgentServer(
        "diptych", title="diptych", instructions=instructions, version=__version__, log_level="WARNING"
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
    limits: Limits | None = None,
) -> Gate:
    """The server as an ASGI application at `/mcp`, which checks key, Host and Origin.

    Args:
        server: what `mcp_server` made.
        keys: required of callers; without keys the server is open.
        host: the address that is listened on.
        hosts: further names by which it may be called.
        origins: web pages that may ask, beside those of this machine.
        limits: how large a body may be, and how slow.

    Raises:
        ConfigError: nobody could know by which name it is called.
    """
    names = [*LOCAL, *hosts, *([] if host in _ANYWHERE else [f"[{host}]" if ":" in host else host])]
    if host in _ANYWHERE and not hosts:
        expected, do = "the name that clients use", "--allowed-host NAME"
        raise ConfigError("a wildcard address is not a host name", where=f"--host {host}", expected=expected, do=do)
    security = TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[*(f"http://{name}:*" for name in LOCAL), *(f"http://{name}" for name in LOCAL), *origins],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, json_response=True, transport_security=security, host=host
    )
    return Gate(_posts_alone(app, limits or Limits()), keys=keys, hosts=[name.strip("[]") for name in names])


def _posts_alone(app: ASGIApp, limits: Limits) -> ASGIApp:
    """The MCP application, which gets only complete POST requests of bounded size and duration.

    A GET would open a stream for messages that the server starts by itself. A server without sessions has none, and
    streams of idle clients would occupy the slots of requests. So GET is answered with 405, as the protocol provides.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        try:
            if scope["method"] != "POST":
                message = f"no {scope['method'][:16]} here\n  expected: POST"
                raise Refused(405, message, code="method_not_allowed", headers={"Allow": "POST"})
            body = await read_body(Request(scope, receive), limits)
        except Refused as refused:
            return await refused.response()(scope, receive, send)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        return await app(scope, receive_again, send)

    return answer


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
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda number, frame: ending.begin(number)) for number in signals}
    try:
        server.run("stdio")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if server.under_way:
            ending.bound()


class NewDocument(BaseModel):
    """A document to write."""

    id: Annotated[str, Field(min_length=1, description="Unique in the collection; a known id replaces that document.")]
    text: str
    title: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict, description="JSON values to filter by.")
    media: dict[Modality, str] = Field(
        default_factory=dict, description="Images or other media by modality, as a data: URI."
    )


Documents: TypeAlias = Annotated[
    list[NewDocument], Field(min_length=1, max_length=MOST_DOCUMENTS, description="The documents.")
]


class SearchResult(BaseModel):
    """The hits, best first."""

    collection: str
    hits: list[FoundDocument]


class ExplainResult(BaseModel):
    """Why each document has its rank."""

    collection: str
    pipeline: str = Field(description="Stages that were run.")
    explanations: list[ExplainedDocument]


class InfoResult(BaseModel):
    """The collections of this server."""

    collections: list[CollectionDescription]


def _offered(kind: type, most: int) -> dict[str, Any]:
    """The options of a tool: a model reads every hit, so it may ask for `most`; the server chooses what a hit costs."""
    fields = {name: field for name, field in REMOTE_OPTIONS.items() if name in kind.__annotations__}
    limit = Annotated[
        Annotated[int, Field(ge=1, le=most)] | None, Field(description=description_of(fields["limit"][0]))
    ]
    return {**fields, "limit": (limit, None)}


class Tools:
    """The tools of one server.

    Args:
        served: the collections.
        tenant: whose documents alone the tools see and write; without, each call names one where one is needed.
    """

    def __init__(self, served: Served, *, tenant: str | None = None) -> None:
        self._served, self._tenant, self._populating = served, tenant, asyncio.Lock()

    @spelled_out(_offered(SearchOptions, MOST_HITS))
    async def search(
        self,
        query: QueryText,
        collection: CollectionName = None,
        media: MediaOfQuery = None,
        text_length: TextLength = 4000,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """Find the documents of a collection that fit a query best, by meaning and by words.

        Returns id, score, title, text and metadata of each hit, best first. Scores compare within one answer only.
        Where the collection has passages, each hit also has the parts of its text that answer best: `passages`.
        """
        with _tool_errors():
            opened = self._asked(query, collection, options)
            require_question(opened, [], media)
            found = await opened.asearch(question_of(query, media), **options)
            hits = [FoundDocument(**hit.as_dict()) for hit in found]
            for hit in hits:
                hit.text = hit.text if len(hit.text) <= text_length else f"{hit.text[:text_length].rstrip()}…"
            return SearchResult(collection=opened.name, hits=hits)

    @spelled_out(_offered(ExplainOptions, MOST_EXPLAINED))
    async def explain(
        self, query: QueryText, collection: CollectionName = None, ids: Ids = None, **options: Unpack[ExplainOptions]
    ) -> ExplainResult:
        """Explain why documents are, or are not, found by a query.

        For each document: rank and score in every slot, what each slot adds to the final score, the words that match,
        the scores of later stages, and where it was left behind when it is no hit.
        """
        with _tool_errors():
            opened = self._asked(query, collection, options)
            items = await asyncio.to_thread(opened.explain, query, ids=ids or None, **options)
            pipeline = repr(items[0].pipeline) if items else _pipeline(opened)
            return ExplainResult(
                collection=opened.name, pipeline=pipeline, explanations=[*map(ExplainedDocument.model_validate, items)]
            )

    async def info(self, collection: CollectionName = None) -> InfoResult:
        """List the collections: how many documents they hold, their slots, and how they are searched."""
        with _tool_errors():
            names = [self._served.collection(collection).name] if collection else list(self._served.collections)
            described = [_described(self._served.collections[name], self._tenant) for name in names]
            return InfoResult(collections=await asyncio.gather(*described))

    async def populate(
        self,
        documents: Documents,
        collection: CollectionName = None,
        tenant: TenantName = None,
        sync: SyncFlag = False,
        dry_run: DryRun = False,
        yes: YesFlag = False,
    ) -> PopulateResult:
        """Write documents into a collection. A document with a known id replaces the one with that id.

        Documents that are in the collection already, unchanged, cost nothing: calling this again is safe.
        """
        with _tool_errors():
            opened = self._served.collection(collection)
            read = opened.handle.view.reading
            texts = [read.of(document.title, document.text) for document in documents]
            require_words(texts, accepted(opened, documents=True), where=f"collection {opened.name!r}")
            for document in documents:
                require_inline(document.media, where=f"document {document.id!r}")
            rows = [Document(**dict(document)) for document in documents]
            options: dict[str, Any] = {"sync": sync, "dry_run": dry_run, "yes": yes}
            async with self._populating:
                options["tenant"] = self._tenant_of_call(tenant)
                return PopulateResult(await asyncio.to_thread(populated, opened, rows, **options))

    def _asked(self, query: str, collection: str | None, options: ExplainOptions) -> Collection:
        """The collection of a call, whose options get the server's tenant; names of files are refused."""
        opened = self._served.collection(collection)
        require_question(opened, [query, *example_texts(options)])
        options["tenant"] = self._tenant_of_call(options.get("tenant"))
        return opened

    def _tenant_of_call(self, tenant: str | None) -> str | None:
        """The tenant of a call: the server's own, if it has one."""
        if self._tenant is None or tenant in (None, self._tenant):
            return self._tenant or tenant
        raise TenantError("this server serves one tenant", got="another", do="leave `tenant` out")


@contextmanager
def _tool_errors() -> Iterator[None]:
    """diptych's errors as text, which says what to do; other errors are faults, logged and not shown."""
    try:
        yield
    except DiptychError as error:
        raise ToolError(str(error)) from error
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        LOG.exception("a tool failed")
        raise ToolError("an unexpected error; the server's log has it") from error


async def _described(collection: Collection, tenant: str | None) -> CollectionDescription:
    """The collection; on a server for one tenant, with the number of that tenant's documents."""
    info = await asyncio.to_thread(collection.info)
    if tenant is not None and info.tenant_field:
        info = replace(info, documents=await asyncio.to_thread(collection.count, tenant=tenant))
    described = CollectionDescription.model_validate(info)
    return described.model_copy(update={"pipeline": _pipeline(collection)})


def _pipeline(collection: Collection) -> str:
    return repr(Pipeline.from_config(collection.handle.search_config, collection.handle.slots))


class PopulateResult(RootModel[PopulateReport]):
    """What was written, and which documents cannot be indexed."""
