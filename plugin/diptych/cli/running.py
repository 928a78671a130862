"""Runs commands: errors become text and exit codes, a closed pipe and Ctrl-C end quietly."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from diptych.cli.helping import PlainCommand
from diptych.cli.output import stderr, write_error
from diptych.errors import DiptychError, GateFailed
from diptych.panics import is_panic

FAILED, SET_ASIDE, PENDING, GATE_CLOSED, INTERRUPTED, PIPE_CLOSED = 1, 3, 4, 5, 130, 141


def command(app: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Add `function` as command `name`; its options `json` and `debug` decide how errors look."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> None:
        with _handled(as_json=bool(options.get("as_json")), debug=bool(options.get("debug"))):
            function(*args, **options)
            sys.stdout.flush()

    app.command(name, cls=PlainCommand)(run)


def end_now(code: int) -> None:
    """End the process where threads go on that nobody can stop, such as one in a call that hangs.

    Python would wait for them, for daemons of its thread pools too. Stores are left as after a kill, which they are
    made for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient Ctrl-C would only add a traceback
    until = time.monotonic() + 0.5
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def _handled(*, as_json: bool, debug: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        stderr().print("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes standard output once more when it ends; that must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except DiptychError as error:
        _raise_when(debug)
        write_error(error, as_json=as_json)
        raise typer.Exit(GATE_CLOSED if isinstance(error, GateFailed) else FAILED) from error
    except BaseException as error:
        if debug or _is_control_flow(error):
            raise
        write_error(_unexpected(error), as_json=as_json)
        raise typer.Exit(FAILED) from error


def _raise_when(debug: bool) -> None:
    """Let the error that is being handled through, traceback and all."""
    if debug:
        raise


def _is_control_flow(error: BaseException) -> bool:
    """Whether typer, click or Python raised it to show usage errors or to leave with a code."""
    if not isinstance(error, Exception):
        return not is_panic(error)
    return hasattr(error, "exit_code") or type(error).__name__ == "Abort"


def _unexpected(error: BaseException) -> DiptychError:
    return DiptychError(
        "an unexpected error: a fault in diptych or in an adapter",
        got=f"{type(error).__name__}: {error}",
        do="run it again with --debug and report what it shows",
    )
