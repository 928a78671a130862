"""Writing to the terminal: readable for people, one JSON document for programs, plain when piped."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diptych.errors import DiptychError
from diptych.repr_html import ReprHtml

_drawing: list[Console] = []  # the consoles that draw bars at the moment
PIPED_WIDTH = 1000  # so that each row is one line for grep and friends


def stdout() -> Console:
    """The console of results. What users' documents say is never read as markup."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def stderr() -> Console:
    """The console of progress, warnings and errors; while bars are drawn, the one that draws them."""
    if _drawing:
        return _drawing[-1]
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


@contextmanager
def drawing(console: Console) -> Iterator[None]:
    """While this goes on, what is written to standard error goes through this console, above the bars that it draws."""
    _drawing.append(console)
    try:
        yield
    finally:
        _drawing.remove(console)


def say(console: Console, text: str, style: str = "") -> None:
    """A sentence: on a terminal broken between words, behind the spaces that it begins with; piped, one line."""
    line = printable(text)
    if not console.is_terminal:
        return console.print(line, style=style, soft_wrap=True)
    indent = len(line) - len(line.lstrip())
    return console.print(Padding(Text(line.strip(), style), (0, 0, 0, indent), expand=False))


def warn(warnings: Iterable[str]) -> None:
    """Each warning on standard error."""
    for warning in warnings:
        say(stderr(), f"warning: {warning}", "yellow")


def write_html(report: ReprHtml, path: Path) -> None:
    """Write the page that notebooks show of this report, and say so on standard error.

    Raises:
        DiptychError: the file cannot be written.
    """
    try:
        path.write_text(f'<!doctype html><meta charset="utf-8">{report._repr_html_()}', encoding="utf-8")
    except OSError as error:
        raise DiptychError("cannot write the page", where=path, got=error.strerror or str(error)) from error
    say(stderr(), f"wrote {path}")


def write_json(value: Any, *, to_stderr: bool = False) -> None:
    """`value` as one JSON document; dataclasses, mappings and numbers of numpy are understood."""
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(json.dumps(value, default=_json_value, ensure_ascii=False, indent=2) + "\n")


def write_error(error: DiptychError, *, as_json: bool) -> None:
    """The error on standard error: what, where, got, expected, what to do; a terminal's lines end between words."""
    if as_json:
        return write_json({"error": error_document(error)}, to_stderr=True)
    first, *detail_lines = str(error).splitlines()
    text = Text.assemble(("error: ", "bold red"), (printable(first), "bold"))
    for line in detail_lines:
        label, colon, value = printable(line).partition(": ")
        text.append("\n").append(label + colon, "dim" if colon else "").append(value)
    for note in getattr(error, "__notes__", ()):
        text.append(f"\n  {printable(note)}")
    console = stderr()
    if not console.is_terminal:
        return console.print(text, soft_wrap=True)
    for part in text.split("\n"):
        indent = len(part.plain) - len(part.plain.lstrip())
        console.print(Padding(part[indent:], (0, 0, 0, indent), expand=False))
    return None


def error_document(error: DiptychError) -> dict[str, Any]:
    """The error as JSON values: kind, what, where, got, expected, do, and the single problems of several."""
    names = ("what", "where", "got", "expected", "do")
    document: dict[str, Any] = {"kind": type(error).__name__}
    document |= {name: value for name in names if (value := getattr(error, name))}
    if notes := getattr(error, "__notes__", ()):
        document["notes"] = list(notes)
    problems = error.context.get("problems")
    if isinstance(problems, tuple):
        document["problems"] = [error_document(problem) for problem in problems]
    return document


def table(*columns: str, title: str | None = None, right: int | None = None) -> Table:
    """An empty table in the one style of all commands; the columns from the place `right` on are of numbers."""
    listing = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        is_number = right is not None and place >= right
        listing.add_column(column, overflow="fold", justify="right" if is_number else "left")
    return listing


def printable(text: str, *, limit: int | None = None) -> str:
    """One line of `text` without control characters, which could command the terminal, cut to `limit` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()) if limit else _visible(text)
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
