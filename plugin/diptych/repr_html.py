"""`ReprHtml`: the base of the values that a notebook shows as a picture."""

from __future__ import annotations

from collections.abc import Callable

# The writers know every kind of value, so no value can know them: `diptych` hands over the function that calls them.
_writers: list[Callable[[object], str]] = []


def show_by(writer: Callable[[object], str]) -> None:
    """Have `writer` make the HTML of all values."""
    _writers[:] = [writer]


class ReprHtml:
    """A value that notebooks show as HTML. The entry point `diptych.html` names its writer; terminals show the repr."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return _writers[0](self)
