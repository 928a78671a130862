"""`diptych studio`: collections in the browser."""

from __future__ import annotations

import logging
import re
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.serve.served_collections import (
    LOCAL,
    CollectionsOption,
    ConfigsOption,
    GraceOption,
    HostOption,
    HostsOption,
    InsecureOption,
    JudgedFoldersOption,
    JudgementsOption,
    KeysOption,
    announce,
    opened,
    require,
)
from diptych.cli.ui.options import CONFIG, JsonOption, QuietOption, StoreOption
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.service.application import Extension
    from diptych.service.served import Served

GRACE = 5
_USER = re.compile(r"//[^/@]*@")  # of a URL, with a password


def studio(
    context: typer.Context,
    configs: ConfigsOption = None,
    store: StoreOption = None,
    collections: CollectionsOption = None,
    queries: JudgedFoldersOption = None,
    judgements: JudgementsOption = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let the page roll a swap back; by default it only reads.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    host: HostOption = LOCAL,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 for a free one.")] = 8002,
    api_keys_env: KeysOption = None,
    insecure: InsecureOption = False,
    allowed_hosts: HostsOption = None,
    grace: GraceOption = GRACE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search collections in the browser; compare, explain and judge their answers.

    The page reads only, unless --judgements or --allow-writes say otherwise. Nothing leaves this machine. If
    DIPTYCH_API_KEY holds an API key, the page asks for it.

    [dim]Examples:[/dim]

      diptych studio --open

      diptych studio -c packages.yaml -c articles.yaml --queries judged --judgements judgements

      diptych studio --store edge:./qdrant --collection packages
    """
    require("starlette", "uvicorn", "prometheus_client", extra="serve")
    from diptych.service.api_keys import Keys, require_key
    from diptych.service.application import application
    from diptych.service.server import address, called, listen, log_to_stderr, run

    keys = Keys.from_environment(api_keys_env)
    require_key(host, keys, insecure=insecure)
    require_folders(queries, judgements)
    session: Session = context.obj
    with listen(host, port) as listening:
        served = opened(session, configs, store, collections)
        extension = studio_of(served, configs, store, queries, judgements, writes=allow_writes)
        hosts = called(host, allowed_hosts or (), keys)
        app = application(served, keys=keys, hosts=hosts, extension=extension)
        log_to_stderr(logging.WARNING if quiet else logging.INFO)
        url = f"{address(listening, host)}/studio/"
        names = list(served.collections)
        said = f"Studio of {', '.join(names)} is at {url}", "Ctrl-C ends it"
        announce({"url": url, "collections": names}, *said, as_json=as_json)
        if open_browser:
            # In a thread: a browser for terminals would keep the service from starting.
            threading.Thread(target=webbrowser.open, args=(url,), name="diptych-browser", daemon=True).start()
        run(app, listening, grace=grace)


def require_folders(queries: Sequence[Path] | None, judgements: Path | None) -> None:
    """Raise ConfigError if queries do not exist, or judgements cannot be saved to a folder of this name."""
    for folder in queries or ():
        if not folder.exists():
            raise ConfigError("there is no such folder", where="--queries", got=str(folder))
    if judgements is not None and not judgements.parent.is_dir():
        raise ConfigError("there is no such folder", where="--judgements", got=str(judgements.parent))
    if judgements is not None and judgements.exists() and not judgements.is_dir():
        expected = "a folder, or a name for a new one"
        raise ConfigError("grades cannot be saved there", where="--judgements", got=str(judgements), expected=expected)


def studio_of(
    served: Served,
    configs: Sequence[Path] | None,
    store: str | None,
    queries: Sequence[Path] | None,
    judgements: Path | None,
    *,
    writes: bool,
) -> Extension:
    """Studio with these options of a command."""
    from diptych.studio.routes import studio

    names = list(served.collections)
    if store is not None:
        place = _USER.sub("//", store)
        opened = {name: f"{place!r}, {name!r}" for name in names}
    else:
        opened = {name: repr(str(path)) for name, path in zip(names, configs or [CONFIG], strict=True)}
    return studio(queries=queries or (), judgements=judgements, writes=writes, opened=opened)
