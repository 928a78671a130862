"""Runs commands: their session, their help, and errors as text and exit codes; a closed pipe and Ctrl-C end quietly."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from diptych.cli.output import stderr, warn, write_error
from diptych.errors import CollectionError, CollectionNotFound, DiptychError, GateFailed
from diptych.runtime import interrupts
from diptych.runtime.panics import is_panic
from diptych.runtime.phases import LOG, phase

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.registry import Registry


LOGGERS = (
    "diptych",
    "diptych_adapters",
    "diptych_edge",
    "diptych_experimental",
    "diptych_lab",
    "diptych_serve",
    "diptych_training",
)


@dataclass(frozen=True, slots=True)
class Session:
    """Where adapters come from; everything installed unless a registry is given."""

    given: Registry | None = None

    @property
    def registry(self) -> Registry:
        """The registry, made at the first use."""
        from diptych.registry import Registry

        return self.given or Registry.default()

    def config(self, path: Path) -> Config:
        """The config file, checked against the adapters at hand.

        Raises:
            ConfigError: see diptych.config.
        """
        from diptych.config import check_adapters, load_config

        config = load_config(path)
        check_adapters(config, self.registry)
        return config

    def collection(
        self, path: Path, store: str | None, name: str | None, *, verify: bool = True, create: bool = False
    ) -> Collection:
        """The collection of a config file, or without one that of `store` and `name`.

        Only what fills a collection asks to `create` the folder of its store.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.collection.collection.
        """
        with phase("import what searches and fills collections"):
            from diptych.collection.collection import Collection

        with phase("open the collection"):
            _require_name(store, name)
            return Collection.open(store or path, name, registry=self.registry, verify=verify, create=create)

    def collection_or_empty(self, config: Path | Config, *, verify: bool = True) -> tuple[Collection, bool]:
        """The collection of a config, and whether its store exists; for a store that does not, an empty one in memory.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.collection.collection.
        """
        from diptych.collection.collection import Collection

        config = self.config(config) if isinstance(config, Path) else config
        try:
            return Collection.open(config, registry=self.registry, verify=verify, create=False), True
        except CollectionNotFound:
            nowhere = config.model_copy(update={"store": "memory:"})
            return Collection.open(nowhere, registry=self.registry, verify=verify), False

    def stored(self, path: Path, store: str | None, name: str | None) -> Collection:
        """The collection with the encoders that it has, whatever the config file wants.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.collection.collection.
        """
        from diptych.collection.collection import Collection

        with phase("open the collection"):
            _require_name(store, name)
            return Collection.stored(store or path, name, registry=self.registry)

    def store(self, place: str | Config, *, key: str | None = None, create: bool = False) -> QdrantBase:
        """The store behind a URL, or that of a config, with `key` or the config's; who asks closes it.

        Raises:
            ConfigError, StoreError: see diptych.stores.
        """
        from pydantic import SecretStr

        from diptych.runtime.environment import interpolate
        from diptych.stores import open_store, open_store_of

        if isinstance(place, str):
            key = interpolate(key, where="api_key") if key else None
            return open_store(place, api_key=key, registry=self.registry, create=create)
        place = place.model_copy(update={"api_key": SecretStr(key)}) if key else place
        return open_store_of(place, registry=self.registry, create=create)


def _require_name(store: str | None, name: str | None) -> None:
    """Raise CollectionError for a store without a collection's name, with the command that lists the names."""
    if store is not None and name is None:
        do = f"add --collection NAME; diptych info --store {shlex.quote(store)} lists the names"
        raise CollectionError("no collection is named", where=f"--store {store}", do=do)


class StandardError(logging.Handler):
    """Writes to the current standard error; while progress bars are shown, to their console, above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a closed pipe is ignored."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            self.handleError(record)


def show(level: str) -> None:
    """Show diptych's own log from this level on; other libraries' logs stay as they are."""
    handler = StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())


def show_warnings() -> None:
    """Show diptych's own warnings as commands show theirs, without the line of code that gave them."""
    plain = warnings.showwarning

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None and category.__module__.partition(".")[0] == "diptych":
            return warn([str(message)])
        return plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show_warning
    # Pillow's warning of a large picture, which is rejected by `media.max_pixels` with a message of its own.
    warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit")


EXAMPLES = 3  # that an error shows
NAMES = {int: "N", float: "NUMBER", str: "TEXT"}

CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
)
TRUST = inspect.Parameter(
    "trust",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--trust", help="Agree to what the collection's stored settings ask for.")],
)
SERVICES = ("serve", "studio")  # they never give consent
_LONGEST_PATH = 300  # characters that an error shows
FAILED, REJECTED, PENDING, INTERRUPTED, PIPE_CLOSED = 1, 3, 4, 130, 141
GATE_CLOSED = {"worse": 5, "undecided": 6, "not measured": 7}  # by the outcome of a swap's gate


def command(app: typer.Typer, name: str, function: Callable[..., None], panel: str | None = None) -> None:
    """Add `function` as command `name`, with `--debug`; that and its own `--json` decide how errors look."""
    app.command(name, cls=PlainCommand, rich_help_panel=panel)(Command(name, function))


def group(name: str, help: str) -> typer.Typer:
    """A command that has commands of its own."""
    return typer.Typer(name=name, cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich", help=help)


class Command:
    """A command's function as typer calls it: gives it the session, and turns errors into text and exit codes.

    It adds `--debug` to each command, and `--trust` to those with `--store` that are no services.
    """

    def __init__(self, name: str, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self._name, self._function = name, function
        self._takes_session = "session" in inspect.signature(function).parameters

    @property
    def __signature__(self) -> inspect.Signature:
        """The command's parameters. Evaluated on request, since a run needs those of one command only."""
        own = inspect.signature(self._function, eval_str=True)
        added = [TRUST, DEBUG] if "store" in own.parameters and self._name not in SERVICES else [DEBUG]
        given = [CONTEXT if name == "session" else parameter for name, parameter in own.parameters.items()]
        return own.replace(parameters=[*given, *added])

    def __call__(self, *args: Any, debug: bool, trust: bool = False, **options: Any) -> None:
        """Run the command."""
        if self._takes_session:
            options["session"] = options.pop("context").obj
        with _handled(as_json=bool(options.get("as_json")), debug=debug), ExitStack() as stack:
            begin = time.perf_counter()
            if trust:
                from diptych.slots.consent import trusting

                stack.enter_context(trusting(True))
            self._function(*args, **options)
            sys.stdout.flush()
            LOG.info("diptych %s: %.2f s, imports before it not included", self._name, time.perf_counter() - begin)


@contextmanager
def _handled(*, as_json: bool, debug: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        stderr().print("interrupted")
        interrupts.mark_told()
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes standard output once more when it ends; that must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except BaseException as error:
        # raised by typer, click or Python to show usage errors or to leave with a code
        leaves = hasattr(error, "exit_code") or type(error).__name__ == "Abort"
        if debug or (leaves if isinstance(error, Exception) else not is_panic(error)):
            raise
        write_error(_explained(error), as_json=as_json)
        outcome = error.context.get("outcome") if isinstance(error, GateFailed) else None
        raise typer.Exit(GATE_CLOSED.get(str(outcome), FAILED)) from error


def _explained(error: BaseException) -> DiptychError:
    if isinstance(error, DiptychError):
        return error
    if isinstance(error, OSError):
        what, where = "the operating system refused the operation", str(error.filename or "")[:_LONGEST_PATH]
        return DiptychError(what, where=where, got=error.strerror or f"{type(error).__name__}: {error}")
    from diptych.stores.server_errors import comes_from_server, store_error

    if comes_from_server(error):
        return store_error(error, "run it again once it does")
    return DiptychError(
        "an unexpected error: a fault in diptych or in an adapter",
        got=f"{type(error).__name__}: {error}",
        do="run it again with --debug and report what it shows",
    )


class PlainCommand(TyperCommand):
    """A command with plain help, whose errors of arguments show examples."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; those that are too many are refused with the examples of the help."""
        ctx.allow_extra_args = True  # left to this method
        left = super().parse_args(ctx, args)
        if left and not ctx.resilient_parsing:
            shown = (line.strip().replace("\\[", "[") for line in (self.help or "").splitlines())
            examples = [f"  {line}" for line in shown if line.startswith("diptych ")][:EXAMPLES]
            given = " ".join(map(repr, left))
            lines = [f"Too many arguments: {given}. Put a text of several words in quotes. Examples:", *examples]
            ctx.fail("\n".join(lines))
        return left

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as help shows them."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with paragraphs as wide as the terminal and not as their docstring."""
        self.help = re.sub(r"(?<=\S)\n(?=\S)", " ", self.help or "")
        super().format_help(ctx, formatter)


class PlainGroup(TyperGroup):
    """A group of commands with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as help shows them."""
        return [_plain(parameter) for parameter in super().get_params(ctx)]


def _plain(parameter: Any) -> Any:
    """`Any`, since typer's parameters have no public type and one class for each kind."""
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
        parameter.metavar = name
        # typer would put its own brackets, dots and type around the name, whatever the name says already
        vars(parameter)["get_usage_pieces"] = lambda ctx: [name if parameter.required else f"[{name}]"]
        vars(parameter)["display_type_rich"] = lambda ctx: None
    elif getattr(parameter, "is_flag", False):
        parameter.metavar = ""
    elif parameter.metavar is None:
        annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        parameter.metavar = NAMES.get(annotation) if isinstance(annotation, type) else None
    return parameter
