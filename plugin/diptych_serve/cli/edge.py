"""`diptych serve --edge`: an embedded store for programs in other processes and languages."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from diptych.cli.output import stderr, write_json

_LOOK = 0.5  # seconds between checks that the store still has a holder


def serve_edge(path: Path, port: int | None, api_keys_env: str | None, *, as_json: bool) -> None:
    """Keep an embedded store open and serve Qdrant's REST API at its socket and at a local port; say the addresses."""
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
