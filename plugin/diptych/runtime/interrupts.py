"""Ctrl-C ends the `diptych` command within two seconds, whatever it is doing; a second one ends it at once.

The first is a KeyboardInterrupt, so that what is open is closed. Not everything can be waited for: an encoder finishes
its batch in native code, a thread pool joins its threads, a library that is being imported turns the exception into an
abort. So a thread ends the process after `GRACE` seconds, and while a module is being imported it ends at once. That is
what a kill does, and populate, apply, copy and train survive kills. It leaves without Python's own shutdown, which
waits for threads and lets native ones abort.

Programs that import diptych keep their own handler: only the command installs this one, when this module is imported,
since what comes after it takes a second.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath
from types import CodeType, FrameType

EXIT = 130  # as shells say of a program that Ctrl-C ended
AGAIN = 0.01  # seconds until an interrupt comes again that met a moment at which nothing can be raised
GRACE = 1.2  # seconds for what is open to be closed
SHOW_CURSOR = b"\r\x1b[?25h\x1b[K"  # a progress bar hides it, and clears its line no more
IMPORTING = "<frozen importlib"

_state = {"running": False, "first": False, "said": False}
_hints: list[Callable[[], str]] = []


def install() -> None:
    """Handle Ctrl-C from now on, in the main thread, unless the process ignores it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) not in (
        signal.SIG_IGN,
        _interrupt,
    ):
        signal.signal(signal.SIGINT, _interrupt)


def install_for_command() -> None:
    """Handle Ctrl-C if this process is the command (script or `python -m diptych`), since imports take a while."""
    script = PurePath(sys.argv[0]).stem if sys.argv else ""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    if script == "diptych" or (script == "-m" and module == ["diptych"]):
        install()


@contextlib.contextmanager
def resumable(hint: str | Callable[[], str]) -> Iterator[None]:
    """Within the block, an interrupt also prints the hint; a callable hint is evaluated at that moment."""
    text = partial(str, hint) if isinstance(hint, str) else hint
    _hints.append(text)
    try:
        yield
    except KeyboardInterrupt:
        if not _state["said"]:
            sys.stderr.write(f"{text()}\n")
        raise
    finally:
        _hints.remove(text)


def run(command: Callable[[], object]) -> None:
    """Run the command. After a Ctrl-C the process ends without waiting for running threads.

    A KeyboardInterrupt can be raised between any two instructions, but only once and only while `running` is set, so
    the outer block handles it wherever it occurs. A context manager would have instructions outside of any `try`.
    """
    install()
    try:
        try:
            _state["running"] = True
            command()
        finally:
            _state["running"] = False  # from here on Python waits for threads, and an exception would only be printed
    finally:
        if _state["first"]:
            if not _state["said"]:
                sys.stderr.write("interrupted\n")
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # a pipe that nobody reads any more
                    stream.flush()
            os._exit(EXIT)


def mark_told() -> None:
    """Note that the user has already been told about the interrupt."""
    _state["said"] = True


def _interrupt(number: int, frame: FrameType | None) -> None:
    is_importing = _is_below(frame, lambda code: code.co_filename.startswith(IMPORTING))
    if _state["first"] or not _state["running"] or is_importing:
        _leave()
    later = threading.Timer(GRACE, _leave)
    later.daemon = True
    later.start()
    if _is_below(frame, lambda code: code.co_filename == weakref.__file__ or code.co_name == "__del__"):
        threading.Timer(AGAIN, _thread.interrupt_main).start()  # there an exception would only be printed
        return
    _state["first"] = True
    raise KeyboardInterrupt


def _is_below(frame: FrameType | None, wanted: Callable[[CodeType], bool]) -> bool:
    """Whether a function whose code is wanted is running."""
    while frame is not None:
        if wanted(frame.f_code):
            return True
        frame = frame.f_back
    return False


def _leave() -> None:
    """End the process now. Bypasses Python's output buffers, whose locks another thread may hold."""
    lines = [] if _state["said"] else [*(hint() for hint in _hints), "interrupted"]
    text = "".join(f"{line}\n" for line in lines).encode()
    with contextlib.suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + text)
    os._exit(EXIT)


install_for_command()
