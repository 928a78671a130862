"""`diptych edge`: an embedded store for programs in other processes and languages."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import stderr, write_json
from diptych.cli.ui.run_command import command, group
from diptych_serve.cli.serve import KeysOption

app = group("edge", "Serve an embedded store to other programs.")
_LOOK = 0.5  # seconds between checks that the store still has a holder


def serve(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The store's folder; created if missing.")],
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="N", help="Also serve at this local port; 0 takes a free one."),
    ] = None,
    api_keys_env: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep an embedded store open and serve Qdrant's REST API; prints the address.

    Any Qdrant client can connect. Requests to the port must send an API key in the header api-key: the one in
    DIPTYCH_API_KEY, or else a random one that is printed. Programs of this user that open edge:PATH share the store
    with or without this command, and need no key.

    [dim]Examples:[/dim]

      diptych edge serve ./qdrant

      diptych edge serve ./qdrant --port 6333
    """
    from diptych_edge import SharedEdgeClient
    from diptych_edge.share.address import serve_at
    from diptych_serve.service.access import Keys

    keys = Keys.from_environment(api_keys_env)
    signal.signal(signal.SIGTERM, _leave)
    with ExitStack() as stack:
        client = stack.enter_context(SharedEdgeClient(path))
        places, token = [client.url], ""
        if port is not None:
            address = stack.enter_context(serve_at(port, client, has_key=keys.accept_key if keys else None))
            places, token = [*places, address.url], address.token
        _announce(places, token, client, as_json=as_json)
        while True:
            time.sleep(_LOOK)
            client.info()  # if the holder has ended, this call makes this process the holder


def _announce(places: list[str], token: str, client: object, *, as_json: bool) -> None:
    if as_json:
        write_json({"urls": places, **({"api_key": token} if token else {})})
        sys.stdout.flush()
        return
    for place in places:
        stderr().print(f"{client} answers at {place}", style="bold", highlight=False)
    if token:
        stderr().print(f"api-key of the port, until this command ends: {token}", highlight=False, soft_wrap=True)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


command(app, "serve", serve)
