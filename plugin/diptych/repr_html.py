"""`ReprHtml`: the base of the values that a notebook shows as a picture."""

from __future__ import annotations

from importlib import import_module


class ReprHtml:
    """A value that notebooks show as HTML. `diptych.notebook` writes it; plain terminals go on showing the repr."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        # By name and at the last moment: the writers know every kind of value, so no value can know them.
        html: str = import_module("diptych.notebook").html(self)
        return html
