"""The typer application: global options and the commands in the order in which a new user meets them."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import typer

from diptych.cli import adapters, apply, collections, doctor, evaluate, init, populate, search, status, train
from diptych.cli.options import option
from diptych.cli.output import warn
from diptych.cli.run_command import PlainGroup, Session, command, show_warnings
from diptych.cli.run_command import show as show_logs
from diptych.runtime import interrupts
from diptych.runtime.vendor_telemetry import quiet

# Imported modules stay in memory: looking for garbage among them took a tenth of a command's start.
GARBAGE = (50_000, 20, 100)
COMMANDS = "diptych.commands"  # the entry-point group; an entry names a function, or a `typer.Typer`
TRITON = "triton._C.libtriton"  # lists what it holds, as leaks, in 30 lines unless that search has freed it
EPILOG = (
    "Exit codes: 0 success, 1 an error or a failed check, 2 wrong usage, 3 some documents were rejected, "
    "4 changes are pending, 5 the gate kept the old encoders, 130 interrupted, 141 the output pipe was closed."
)


def _application() -> typer.Typer:
    return typer.Typer(
        name="diptych",
        cls=PlainGroup,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,  # its tracebacks show local variables, and those may hold secrets
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )


app = _application()


def _version(is_given: bool) -> None:
    if is_given:
        from diptych import __version__

        typer.echo(f"diptych {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, option("Log the steps and their times to standard error.", "--verbose", "-v")] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        option("Lowest level to log: debug, info, warning or error.", metavar="LEVEL"),
    ] = None,
) -> None:
    """Connect dense encoders, sparse lexicons, late interaction and rerankers to Qdrant.

    One file, diptych.yaml, says which encoders fill and query a collection.
    """
    context.obj = context.obj or Session()
    if level := log_level or ("info" if verbose else None):
        show_logs(level)


OWN = {
    "demo": init.demo,
    "init": init.init,
    "doctor": doctor.doctor,
    "search": search.search,
    "populate": populate.populate,
    "adopt": populate.adopt,
    "info": collections.info,
    "delete": collections.delete,
    "copy": collections.copy,
    "cache": doctor.cache,
    "plan": apply.plan,
    "apply": apply.apply,
    "status": status.status,
    "rollback": status.rollback,
    "finish": status.finish,
    "evaluate": evaluate.evaluate,
    "train": train.train,
    "adapters": adapters.adapters,
}
PANELS = {  # of the help, by what one wants; commands of other packages stand below them
    "Search": ("demo", "init", "doctor", "search", "serve", "studio"),
    "Data": ("populate", "adopt", "info", "delete", "copy", "cache"),
    "Change": ("plan", "apply", "status", "rollback", "finish"),
    "Measure": ("evaluate", "judge", "tune"),
    "Train": ("train", "adapters"),
}


_commands: dict[str, Any] = dict(OWN)
for _entry in sorted(importlib.metadata.entry_points(group=COMMANDS), key=lambda entry: entry.name):
    try:
        _commands[_entry.name] = _entry.load()
    except ImportError as error:
        warn([f"the command {_entry.name} is left out, since {_entry.value} cannot be imported: {error}"])
_panels = {name: panel for panel, names in PANELS.items() for name in names}
for _name in sorted(_commands, key=lambda name: [*_panels, *_commands].index(name)):  # those of the panels first
    if isinstance(_commands[_name], typer.Typer):
        app.add_typer(_commands[_name], rich_help_panel=_panels.get(_name))
    else:
        command(app, _name, _commands[_name], _panels.get(_name))


def main(args: Sequence[str] | None = None, *, session: Session | None = None) -> None:
    """Run the command line; leaves through SystemExit.

    Args:
        args: instead of `sys.argv[1:]`.
        session: where the commands take adapters from; everything installed unless given.
    """
    quiet()
    is_own_process = args is None  # else it is called within another program, which keeps its own Ctrl-C
    if is_own_process:
        gc.set_threshold(*GARBAGE)
        show_warnings()
    application = _with_command(sys.argv[1:] if args is None else args)
    run = partial(application, args=args, obj=session, prog_name="diptych")
    if not is_own_process:
        run()
        return
    try:
        interrupts.run(run)
    finally:
        if TRITON not in sys.modules:
            gc.freeze()  # Python ends with a search for garbage, which takes a second where PyTorch is loaded


def _with_command(args: Sequence[str]) -> typer.Typer:
    """The application with the command that the arguments begin with alone: typer takes long to build them all."""
    commands = [command for command in app.registered_commands if [command.name] == [*args[:1]]]
    if not commands:  # options, a group of commands, help, completion, or a mistake
        return app
    application = _application()
    application.registered_callback, application.registered_commands = app.registered_callback, commands
    return application
