"""`Columns`: the columns or keys that hold id, text, title and media under other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.errors import PopulateError, brief
from diptych.media import MODALITIES, Modality
from qdrant_edge_client.validation_messages import nearest

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
