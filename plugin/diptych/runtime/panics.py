"""Failures of native code below encoders and stores, as errors that callers can handle."""

from __future__ import annotations

from diptych.errors import AdapterCrashed
from diptych_edge.panics import contained as contained
from diptych_edge.panics import described
from diptych_edge.panics import is_panic as is_panic


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
