"""Columns of tables: those that hold id, text, title and media under other names, and the types of a CSV file's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.errors import PopulateError, brief
from diptych.media import MODALITIES, Modality
from diptych.runtime.validation_messages import nearest

TYPES = ("text", "integer", "float", "bool")
EVERY = "*"  # stands for all columns that are not named
Cell = str | int | float | bool
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,16})\.([0-9]{1,17})", re.ASCII)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_TRUTH = {"true": True, "false": False}
_TRUTH_AS_PEOPLE_WRITE_IT = {**_TRUTH, "yes": True, "no": False, "1": True, "0": False}

SHOWN = 40  # names that an error lists


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns, or keys of JSON objects, that hold id, text and title; None stands for the usual name.

    `media` names those that hold paths or bytes of media, each with its modality.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None
    media: tuple[tuple[str, Modality], ...] = ()

    def renamed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with id, text, title and media under the usual names. Columns that had these names are dropped."""
        found = dict(row)
        named = [(usual, row.get(column)) for usual, column in self._given()]
        for usual, column in self._given():
            for name in (column, usual, "_id" if usual == "id" else usual):
                found.pop(name, None)
        for column, _ in self.media:
            found.pop(column, None)
        if self.media:
            # The row's media by modality: those of its columns, and those under `media` in a JSON object.
            in_object = row.get("media")
            cells = {modality: content_of(row.get(column)) for column, modality in self.media}
            given = {modality: cell for modality, cell in cells.items() if cell is not None and cell != ""}
            found["media"] = {**(in_object if isinstance(in_object, Mapping) else {}), **given}
        return {**found, **{usual: value for usual, value in named if value is not None}}

    def require(self, names: Iterable[str], where: str, *, table: str = "table") -> None:
        """Raise PopulateError if a column is missing, or no column holds the id or the text."""
        names = tuple(names)
        for flag, column in self._given():
            if column not in names:
                what = f"the {table} has no column {column!r}"
                raise _no_column(what, names, where, nearest(column, names), f"{column}, by --{flag}-column")
        for column, modality in self.media:
            if column not in names:
                what = f"the {table} has no column {column!r}"
                raise _no_column(
                    what, names, where, nearest(column, names), f"{column}, by --media {column}={modality}"
                )
        for flag, given, usual in (("id", self.id, ("id", "_id")), ("text", self.text, ("text", "title", "media"))):
            if given is None and not set(usual) & set(names) and not (flag == "text" and (self.title or self.media)):
                what = f"the {table} has no {flag} column"
                do = f"name the column that holds the {flag}: --{flag}-column NAME, {flag}_column"
                raise _no_column(what, names, where, do, " or ".join(usual[:2]))

    def _given(self) -> list[tuple[str, str]]:
        named = (("id", self.id), ("text", self.text), ("title", self.title))
        return [(usual, column) for usual, column in named if column is not None]


def content_of(cell: object) -> object:
    """The media in a cell: the cell itself, or the bytes or path of a struct of both, as Hugging Face writes them."""
    if isinstance(cell, Mapping) and {"bytes", "path"} >= cell.keys():
        return cell.get("bytes") or cell.get("path")
    return cell


def checked_media(media: Mapping[str, str]) -> tuple[tuple[str, Modality], ...]:
    """Columns and their modalities, as a user named them.

    Raises:
        PopulateError: a modality does not exist, or has two columns.
    """
    found: list[tuple[str, Modality]] = []
    for column, modality in media.items():
        if modality not in MODALITIES:
            what, expected = "unknown modality of a column", ", ".join(MODALITIES)
            raise PopulateError(what, where=column, got=repr(modality), expected=expected)
        found.append((column, modality))
    if len(dict(found)) > len(set(media.values())):
        raise PopulateError("a modality has several columns", got=brief(dict(media)), expected="one for each modality")
    return tuple(found)


def _no_column(what: str, names: tuple[str, ...], where: str, do: str, expected: str) -> PopulateError:
    found = ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")
    if len(names) == 1 and (other := next((c for c in ";|\t" if c in names[0]), "")):
        do = f"the columns look separated by {other!r}; write the table with commas, or with tabs as .tsv"
    return PopulateError(what, where=where, got=found or "no columns", expected=expected, do=do)


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
    """Infer the types of columns that are not text from all their cells; empty cells are ignored.

    A CSV file has no types, and range filters do not match text. So a column is numeric when every cell is written
    exactly as its number would be: `007`, `1e5`, `+49 30`, `nan` and ` 5` are text, and one of them makes the whole
    column text. Fractions have the shortest form, or all the same number of decimals, as prices have.
    """
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
