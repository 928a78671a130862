"""Types of a CSV file's columns: named by the user, or inferred from all cells of a column.

A CSV file has no types, and range filters do not match text. So a column is numeric when every cell is written exactly
as its number would be: `007`, `1e5`, `+49 30`, `nan` and ` 5` are text, and one of them makes the whole column text.
Fractions have the shortest form, or all the same number of decimals, as prices have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from diptych.errors import PopulateError
from qdrant_edge_client.validation_messages import nearest

TYPES = ("text", "integer", "float", "bool")
EVERY = "*"  # stands for all columns that are not named
Cell = str | int | float | bool
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,16})\.([0-9]{1,17})", re.ASCII)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_TRUTH = {"true": True, "false": False}
_TRUTH_AS_PEOPLE_WRITE_IT = {**_TRUTH, "yes": True, "no": False, "1": True, "0": False}


def checked_types(types: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, str]:
    """The types that the user named, checked.

    Raises:
        PopulateError: there is no such type, or no such column.
    """
    for name, kind in types.items():
        if kind not in TYPES:
            raise PopulateError("unknown type of a column", where=name, got=repr(kind), expected=", ".join(TYPES))
        if name != EVERY and name not in names:
            what, got = f"the table has no column {name!r}", ", ".join(names)
            raise PopulateError(what, where=where, got=got, expected="types of its columns", do=nearest(name, names))
    return dict(types)


def infer_types(names: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Infer the types of columns that are not text from all their cells; empty cells are ignored."""
    open_columns = [(at, name, _Column()) for at, name in enumerate(names)]
    for row in rows:
        if not open_columns:
            break
        for at, _, column in open_columns:
            if at < len(row) and row[at]:
                column.see(row[at])
        if any(column.is_text for _, _, column in open_columns):
            open_columns = [one for one in open_columns if not one[2].is_text]
    return {name: kind for _, name, column in open_columns if (kind := column.kind())}


def typed(cell: str, kind: str) -> Cell | None:
    """The cell as a value of the type that the user named; None if it does not fit."""
    try:
        if kind == "integer":
            return int(cell)
        if kind == "float":
            number = float(cell)
            return number if math.isfinite(number) else None
    except ValueError:
        return None
    return _TRUTH_AS_PEOPLE_WRITE_IT.get(cell.strip().lower()) if kind == "bool" else cell


def as_inferred(cell: str, kind: str) -> Cell:
    """The cell as a value of its column's inferred type; unchanged if it does not fit because the file has changed."""
    if kind == "bool":
        return _TRUTH.get(cell, cell)
    if _is_integer(cell):
        return int(cell)
    return float(cell) if kind == "float" and _FRACTION.fullmatch(cell) else cell


class _Column:
    """The types that fit all cells of a column so far."""

    def __init__(self) -> None:
        self._seen = self._fraction = False
        self._truth = self._number = self._shortest = True
        self._decimals: int | None = None  # of all fractions, -1 when they differ

    @property
    def is_text(self) -> bool:
        return not (self._truth or self._number)

    def see(self, cell: str) -> None:
        self._seen = True
        self._truth = self._truth and cell in _TRUTH
        self._number = self._number and (_is_integer(cell) or self._is_fraction(cell))

    def kind(self) -> str | None:
        if not self._seen:
            return None
        if self._truth:
            return "bool"
        return "float" if self._fraction else "integer"

    def _is_fraction(self, cell: str) -> bool:
        """Whether the cell, and all fractions before it, can be restored exactly from the numbers."""
        found = _FRACTION.fullmatch(cell)
        if found is None:
            return False
        self._fraction = True
        number, decimals = float(cell), len(found[1])
        self._shortest = self._shortest and repr(number) == cell
        same = self._decimals in (None, decimals) and f"{number:.{decimals}f}" == cell
        self._decimals = decimals if same else -1
        return self._shortest or same


def _is_integer(cell: str) -> bool:
    return _INTEGER.fullmatch(cell) is not None and _SMALLEST <= int(cell) <= _LARGEST
