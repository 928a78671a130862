"""`diptych mcp`: the MCP server."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from diptych.cli.serve.served_collections import (
    LOCAL,
    CollectionsOption,
    ConfigsOption,
    ConnectionsOption,
    GraceOption,
    HeaderSecondsOption,
    HostOption,
    HostsOption,
    IdleSecondsOption,
    InsecureOption,
    KeysOption,
    OriginsOption,
    announce,
    opened,
    require,
)
from diptych.cli.ui.options import JsonOption, StoreOption
from diptych.cli.ui.output import stderr
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError
from diptych.service.limits import Bounds

BOUNDS = Bounds()


class Transports(StrEnum):
    """How clients reach the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    context: typer.Context,
    configs: ConfigsOption = None,
    store: StoreOption = None,
    collections: CollectionsOption = None,
    allow_populate: Annotated[
        bool, typer.Option("--allow-populate", help="Let the model write documents; by default it only reads.")
    ] = False,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Serve only this tenant's documents, whatever a call says.")
    ] = None,
    transport: Annotated[
        Transports, typer.Option(metavar="TRANSPORT", help="stdio, for a client that starts the server; or http.")
    ] = Transports.STDIO,
    host: HostOption = LOCAL,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="http: the port; 0 for a free one.")] = 8001,
    api_keys_env: KeysOption = None,
    insecure: InsecureOption = False,
    allowed_hosts: HostsOption = None,
    allowed_origin: OriginsOption = None,
    max_connections: ConnectionsOption = BOUNDS.connections,
    header_seconds: HeaderSecondsOption = BOUNDS.header_seconds,
    idle_seconds: IdleSecondsOption = BOUNDS.idle_seconds,
    grace: GraceOption = 30,
    as_json: JsonOption = False,
) -> None:
    """Serve collections to language models by the Model Context Protocol: the tools search, explain and info.

    Over stdio, standard output carries only the protocol. Over http the address ends with /mcp, and if
    DIPTYCH_API_KEY holds an API key, requests must send it.

    [dim]Examples:[/dim]

      diptych mcp -c /home/me/packages/diptych.yaml

      diptych mcp -c packages.yaml -c notes.yaml --allow-populate

      diptych mcp --transport http --port 8001
    """
    require("mcp", extra="mcp")
    session: Session = context.obj
    if store is not None and allow_populate:
        raise ConfigError("--allow-populate needs configs", got=f"--store {store}", do="name a config by -c FILE")
    with closing(opened(session, configs, store, collections, create=allow_populate)) as served:
        from diptych.agents.server import http_application, mcp_server, serve_stdio
        from diptych.service.api_keys import Keys, require_key
        from diptych.service.readiness import warm_in_background

        server = mcp_server(served, allow_populate=allow_populate, tenant=tenant)
        server.listed = partial(warm_in_background, served)
        if transport is Transports.STDIO:
            if sys.stdin.isatty():
                stderr().print("waiting for a client on standard input; one usually starts this command itself")
            return serve_stdio(server, served.close, grace=grace)
        keys = Keys.from_environment(api_keys_env)
        require_key(host, keys, insecure=insecure)
        app = http_application(server, keys=keys, host=host, hosts=allowed_hosts or (), origins=allowed_origin or ())
        bounds = Bounds(max_connections, header_seconds, idle_seconds)
        return _over_http(app, host, port, grace=grace, bounds=bounds, as_json=as_json)


def _over_http(app: Any, host: str, port: int, *, grace: int, bounds: Bounds, as_json: bool) -> None:
    from diptych.agents.server import PATH
    from diptych.service.server import address, listen, log_to_stderr, run

    with listen(host, port) as listening:
        log_to_stderr()
        url = f"{address(listening, host)}{PATH}"
        announce({"url": url}, f"listening on {url}", as_json=as_json)
        run(app, listening, grace=grace, bounds=bounds)
