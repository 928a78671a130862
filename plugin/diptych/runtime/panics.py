"""Failures of native code that Python code does not expect: a Rust panic arrives as a BaseException, not an Exception.

Encoders and the embedded store run Rust and C++ below Python. Their panics pass every `except Exception`, so the places
that call them turn panics into errors of diptych's own with `contained`.
"""

from __future__ import annotations

from diptych.errors import AdapterCrashed, DiptychError

LONGEST = 300  # characters of a panic's message that an error shows
_LEAVING = (KeyboardInterrupt, SystemExit, GeneratorExit)
_CANCELLED = ("CancelledError", "Cancelled")  # by name: asyncio and trio are not imported here


def is_panic(error: BaseException) -> bool:
    """Whether it is neither an Exception nor one of Python's own ways to end a call, a task or the process."""
    if isinstance(error, (Exception, *_LEAVING)) or type(error).__name__ in _CANCELLED:
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_panic, error.exceptions))
    return True


class contained:  # noqa: N801  # a class, since each search enters three of them and a generator costs more
    """Raise `kind` where native code panics in the block. Every other exception passes unchanged."""

    __slots__ = ("_do", "_kind", "_what", "_where")

    def __init__(self, kind: type[DiptychError], what: str, *, where: object, do: str = "") -> None:
        self._kind, self._what, self._where, self._do = kind, what, where, do

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and is_panic(error):
            raise self._kind(self._what, where=self._where, got=described(error), do=self._do) from error


def described(error: BaseException) -> str:
    """Its class and message, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]


def as_error(error: BaseException) -> Exception:
    """The error for callers waiting in other threads: itself, or AdapterCrashed for one that would end their thread."""
    if isinstance(error, Exception):
        return error
    crashed = AdapterCrashed(
        "a call ended in a crash of native code, or tried to end the process",
        got=described(error),
        expected="an answer, or an Exception",
        do="see the log of the encoder or of the store",
    )
    crashed.__cause__ = error
    return crashed
