"""`ReprHtml`: the base of the values that a notebook shows as a picture."""

from __future__ import annotations

import html
import importlib.metadata
from collections.abc import Callable
from functools import cache


class ReprHtml:
    """A value that notebooks show as HTML. The entry point `diptych.html` names its writer; terminals show the repr."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return _writer()(self)


@cache
def _writer() -> Callable[[object], str]:
    """What makes the HTML of all values, by the installed package that does; imported when the first is shown."""
    for entry in importlib.metadata.entry_points(group="diptych.html"):
        writer: Callable[[object], str] = entry.load()
        return writer
    return lambda value: f"<pre>{html.escape(repr(value))}</pre>"
