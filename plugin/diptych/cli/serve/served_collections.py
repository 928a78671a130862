"""Shared by `serve` and `mcp`: opens their collections, and checks that their packages are installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from diptych.cli.ui.options import CONFIG
from diptych.cli.ui.output import stderr, write_json
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from diptych.service.served import Served

ConfigsOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="A config file; repeat for more. [default: diptych.yaml]"),
]
CollectionsOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--collection", metavar="NAME", help="With --store: a collection; repeat for more.")
]
HostOption: TypeAlias = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen at.")]
KeysOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Environment variable with the API keys, instead of DIPTYCH_API_KEY."),
]
HostsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--allowed-host", metavar="NAME", help="A further host name of the server; repeat for more."),
]
OriginsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Origin of a web page that may call from a browser; repeat for more."),
]
InsecureOption: TypeAlias = Annotated[
    bool, typer.Option("--insecure", help="Let other machines call without an API key.")
]
GraceOption: TypeAlias = Annotated[
    int, typer.Option(min=1, metavar="SECONDS", help="After SIGTERM or Ctrl-C: time for running requests to finish.")
]
ConnectionsOption: TypeAlias = Annotated[
    int, typer.Option("--max-connections", min=1, metavar="N", help="Maximum number of connections.")
]
HeaderSecondsOption: TypeAlias = Annotated[
    float,
    typer.Option(
        "--header-seconds", min=0.1, metavar="SECONDS", help="Maximum time for a client to send request headers."
    ),
]
IdleSecondsOption: TypeAlias = Annotated[
    int, typer.Option("--idle-seconds", min=1, metavar="SECONDS", help="Maximum idle time of a connection.")
]
JudgedFoldersOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--queries", metavar="FOLDER", help="Studio: queries.jsonl, and qrels/ if they are judged; repeat for more."
    ),
]
JudgementsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--judgements", metavar="FOLDER", help="Studio: let people judge, and save their grades there."),
]
LOCAL = "127.0.0.1"


def opened(
    session: Session,
    configs: Sequence[Path] | None,
    store: str | None,
    names: Sequence[str] | None,
    *,
    adapters: Sequence[str] = (),
    create: bool = False,
) -> Served:
    """The collections that the options name.

    Raises:
        ConfigError, StoreError, CollectionError: see diptych.collection.collection.
    """
    from diptych.service.served import Served

    if store is not None:
        return Served.stored(store, names or [], adapters=adapters, registry=session.registry)
    if names:
        raise ConfigError("--collection goes with --store", do="name configs instead: each names its collection")
    return Served.open(configs or [CONFIG], adapters=adapters, registry=session.registry, create=create)


def announce(document: Mapping[str, object], *lines: str, as_json: bool) -> None:
    """Say that a service listens: as JSON on standard output, or as lines on standard error."""
    if as_json:
        write_json(document)
        sys.stdout.flush()
        return
    for number, line in enumerate(lines):
        stderr().print(line, style="" if number else "bold")


def require(*modules: str, extra: str) -> None:
    """Raise MissingExtra when one of these modules is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"this command needs the package {module.partition('.')[0]}",
                got=str(error),
                do=f"pip install 'diptych[{extra}]'",
            ) from error
