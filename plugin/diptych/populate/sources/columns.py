"""`Columns`: the columns or keys that hold id, text and title under other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.errors import PopulateError
from qdrant_edge_client.validation_messages import nearest

SHOWN = 40  # names that an error lists


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns, or keys of JSON objects, that hold id, text and title; None stands for the usual name."""

    id: str | None = None
    text: str | None = None
    title: str | None = None

    def renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its id, text and title under the usual names. Columns that had these names are dropped."""
        found = dict(row)
        named = [(usual, row.get(column)) for usual, column in self._given()]
        for usual, column in self._given():
            for name in (column, usual, "_id" if usual == "id" else usual):
                found.pop(name, None)
        return {**found, **{usual: value for usual, value in named if value is not None}}

    def require(self, names: Iterable[str], where: str, *, table: str = "table") -> None:
        """Raise PopulateError if a column is missing, or no column holds the id or the text."""
        names = tuple(names)
        for flag, column in self._given():
            if column not in names:
                what = f"the {table} has no column {column!r}"
                raise _no_column(what, names, where, nearest(column, names), f"{column}, by --{flag}-column")
        for flag, given, usual in (("id", self.id, ("id", "_id")), ("text", self.text, ("text", "title"))):
            if given is None and not set(usual) & set(names) and not (flag == "text" and self.title):
                what = f"the {table} has no {flag} column"
                do = f"name the column that holds the {flag}: --{flag}-column NAME, {flag}_column"
                raise _no_column(what, names, where, do, " or ".join(usual))

    def _given(self) -> list[tuple[str, str]]:
        named = (("id", self.id), ("text", self.text), ("title", self.title))
        return [(usual, column) for usual, column in named if column is not None]


def _no_column(what: str, names: tuple[str, ...], where: str, do: str, expected: str) -> PopulateError:
    found = ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")
    if len(names) == 1 and (other := next((c for c in ";|\t" if c in names[0]), "")):
        do = f"the columns look separated by {other!r}; write the table with commas, or with tabs as .tsv"
    return PopulateError(what, where=where, got=found or "no columns", expected=expected, do=do)
