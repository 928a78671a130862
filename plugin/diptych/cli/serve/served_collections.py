"""What `serve` and `mcp` share: which collections they open, and that their packages are installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from diptych.cli.ui.options import CONFIG
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from diptych.service.served import Served

ConfigsOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="A config file; again for more. [default: diptych.yaml]"),
]
CollectionsOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--collection", metavar="NAME", help="With --store: a collection; again for more.")
]
HostOption: TypeAlias = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")]
KeysOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Variable that holds the API keys, instead of DIPTYCH_API_KEY."),
]
HostsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--allowed-host", metavar="NAME", help="A name by which it is called, too; again for more."),
]
OriginsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="A web page's origin that may ask from a browser; again for more."),
]
InsecureOption: TypeAlias = Annotated[
    bool, typer.Option("--insecure", help="Let other machines ask without an API key.")
]
GraceOption: TypeAlias = Annotated[
    int, typer.Option(min=1, metavar="SECONDS", help="After SIGTERM: time for running requests to end.")
]
ConnectionsOption: TypeAlias = Annotated[
    int, typer.Option("--max-connections", min=1, metavar="N", help="Connections at once, at most.")
]
HeaderSecondsOption: TypeAlias = Annotated[
    float, typer.Option("--header-seconds", min=0.1, metavar="SECONDS", help="Time for the headers of a request.")
]
IdleSecondsOption: TypeAlias = Annotated[
    int, typer.Option("--idle-seconds", min=1, metavar="SECONDS", help="Time that an idle connection is kept.")
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
