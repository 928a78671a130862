"""`Display`: what people are shown of a value, and the one place that makes HTML, a terminal's text and JSON of it.

A value that inherits `Displayed` says by `display` what is shown of it: a sentence, tables, notes and warnings.
Notebooks show `html` of that, commands `write` it. Text comes from documents and users: in HTML it is escaped, isolated
from the direction of the text around it and without control characters; a terminal gets no character that could
command it. The HTML needs no script, style sheet, file or package.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

MINUTE, HOUR, DAY = 60, 3600, 86400
KILO = 1000

ROWS = 50  # of a table in HTML; the rest is counted
TEXT, LINE = 320, 2000  # characters of a cell, and of a sentence or note
WORD = 40  # characters of a name or figure that a narrow terminal does not break
PIPED_WIDTH = 1000  # so that each row is one line for grep and friends
COLOURS = {"good": "#2f9e63", "bad": "#d1495b", "warning": "#b7791f", "neutral": "#7d8590"}
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}
_RULE = "1px solid rgba(128,128,128,.3)"
_MARK = "background:rgba(255,193,7,.38);color:inherit;border-radius:3px;padding:0 1px"
_CELL = f"padding:4px 10px 4px 0;border:0;border-top:{_RULE};vertical-align:top;white-space:normal;max-width:46em"
_PAGE = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;color:inherit;text-align:left"
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Mood: TypeAlias = Literal["", "good", "bad", "warning", "neutral"]
Place: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text with some of its words marked; `words` are the begin and end of each, others than in the text ignored."""

    text: str
    words: tuple[Place, ...] = ()

    def parts(self) -> list[tuple[str, bool]]:
        """Pieces of the text from a little before its first marked word on, and whether each is marked."""
        text, known = self.text, sorted(place for place in self.words if 0 <= place[0] < place[1] <= len(self.text))
        begin = max(0, known[0][0] - TEXT // 4) if known and known[0][1] > TEXT else 0
        end, at = min(len(text), begin + TEXT), begin
        pieces = [("…", False)] if begin else []
        for first, last in known:
            if at <= first and last <= end:
                pieces += [(text[at:first], False), (text[first:last], True)]
                at = last
        return [*pieces, (text[at:end], False), *([("…", False)] if end < len(text) else [])]


@dataclass(frozen=True, slots=True)
class Picture:
    """A small JPEG or PNG; terminals, and notebooks for other data, show nothing."""

    data: bytes


Cell: TypeAlias = str | Excerpt | Picture | tuple["Cell", ...]  # those of a tuple stand below one another


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below the names of their columns; the places `numbers` are of columns that stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Collection[int] = ()
    title: str = ""


@dataclass(frozen=True, slots=True)
class Display:
    """What is shown of a value.

    Args:
        sentence: the verdict, or what it is.
        parts: tables, notes, and displays within this one, in order.
        warnings: sentences that stand out.
        mood: whether the sentence is good news.
    """

    sentence: str
    parts: Sequence[Table | Display | Excerpt | str] = ()
    warnings: Sequence[str] = ()
    mood: Mood = ""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=(text := io.StringIO()), width=PIPED_WIDTH, markup=False, emoji=False, highlight=False)
        write(self, console)
        return "\n".join(line.rstrip() for line in [*text.getvalue().splitlines(), *map(printable, self.warnings)])


class Displayed:
    """A value that says what is shown of it. Notebooks show that as HTML; terminals and logs keep the repr."""

    __slots__ = ()

    def display(self) -> Display:
        """What people are shown of it."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return html(self.display())


def html(shown: Display) -> str:
    """A piece of HTML that stands alone."""
    return _tag("div", _box(shown), style=_PAGE)


class _Html(str):
    """HTML that is written already, and is not escaped again."""

    __slots__ = ()


def _tag(name: str, *content: str, **attributes: str) -> _Html:
    """An element; texts within it and values of attributes are escaped."""
    written = "".join(f' {key}="{_escaped(value)}"' for key, value in attributes.items())
    return _Html(f"<{name}{written}>{''.join(map(_escaped, content))}</{name}>")


def _escaped(text: str) -> str:
    return text if isinstance(text, _Html) else escape(_UNSAFE.sub("\ufffd", text))


def _line(text: str, limit: int) -> _Html:
    """A text on one line, shortened, and isolated from the direction of the text around it."""
    line = " ".join(text[: 4 * limit].split())
    return _tag("bdi", line if len(line) <= limit else f"{line[:limit].rstrip()}…")


def _box(shown: Display) -> _Html:
    beside = f"border-left:4px solid {COLOURS[shown.mood]};padding-left:8px;" if shown.mood else ""
    head = _tag("div", _line(shown.sentence, LINE), style=f"{beside}font-weight:600;margin:2px 0 6px;max-width:62em")
    warned = f"margin:3px 0;border-left:4px solid {COLOURS['warning']};padding-left:8px"
    parts = [_part(part) for part in shown.parts[:ROWS]]
    more = [_note(f"and {len(shown.parts) - ROWS:,} more")] if len(shown.parts) > ROWS else []
    return _tag("div", head, *parts, *more, *(_tag("div", _line(text, LINE), style=warned) for text in shown.warnings))


def _part(part: Table | Display | Excerpt | str) -> _Html:
    if isinstance(part, Display):
        return _tag("div", _box(part), style=f"border-top:{_RULE};padding:6px 0")
    if isinstance(part, Table):
        return _table(part)
    return _note(part) if isinstance(part, str) else _tag("div", _cell(part))


def _note(text: str) -> _Html:
    return _tag("div", _line(text, LINE), style="font-size:12px;margin:2px 0;opacity:.8")


def _table(table: Table) -> _Html:
    sides = ["right" if place in table.numbers else "left" for place in range(len(table.columns))]
    head = [
        _tag("th", name, style=f"{_CELL};border-top:0;font-weight:600;opacity:.75;text-align:{side}")
        for name, side in zip(table.columns, sides, strict=True)
    ]
    figures = {"right": ";font-variant-numeric:tabular-nums;white-space:nowrap", "left": ""}
    body = [
        _tag(
            "tr",
            *(
                _tag("td", _cell(cell), style=f"{_CELL}{figures[side]};text-align:{side}")
                for cell, side in zip(row, sides, strict=True)
            ),
            style="background:transparent",
        )
        for row in table.rows[:ROWS]
    ]
    title = [_tag("div", table.title, style="font-weight:600;margin:8px 0 2px")] if table.title else []
    more = [_note(f"and {len(table.rows) - ROWS:,} more")] if len(table.rows) > ROWS else []
    style = "border-collapse:collapse;margin:2px 0 6px;border:0;font-size:13px"
    rows = _tag("table", _tag("thead", _tag("tr", *head)), _tag("tbody", *body), style=style)
    return _tag("div", *title, rows, *more)


def _cell(cell: Cell) -> _Html:
    if isinstance(cell, tuple):
        return _tag("div", *(_tag("div", _cell(own)) for own in cell))
    if isinstance(cell, Excerpt):
        return _tag("bdi", *(_tag("mark", text, style=_MARK) if marked else text for text, marked in cell.parts()))
    if isinstance(cell, str):
        return _line(cell, TEXT)
    kind = next((kind for magic, kind in _PICTURES.items() if cell.data.startswith(magic)), "")
    source = f"data:{kind};base64,{base64.b64encode(cell.data).decode()}"
    return _Html(
        f'<img src="{source}" alt="" style="max-width:96px;max-height:96px;border-radius:4px">' if kind else ""
    )


def write(shown: Display, console: Console) -> None:
    """Write everything but the warnings to a console."""
    if shown.sentence:
        say(console, shown.sentence, "bold")
    for part in shown.parts:
        if isinstance(part, Display):
            write(part, console)
        elif isinstance(part, Table):
            if part.rows:
                console.print(_rich_table(part))
        elif isinstance(part, str):
            say(console, part)
        else:
            console.print(_rich(part), soft_wrap=not console.is_terminal)


def _rich_table(table: Table) -> RichTable:
    """The table in the one style of all commands."""
    from rich.table import Table as RichTable

    style: dict[str, Any] = {"title_justify": "left", "title_style": "bold", "header_style": "dim"}
    listing = RichTable(title=table.title or None, box=None, pad_edge=False, **style)
    for place, name in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        is_whole = all(isinstance(cell, str) and len(cell) <= WORD and " " not in cell for cell in cells)
        side: Literal["right", "left"] = "right" if place in table.numbers else "left"
        listing.add_column(printable(name), overflow="fold", justify=side, no_wrap=is_whole)
    for row in table.rows:
        listing.add_row(*map(_rich, row))
    return listing


def _rich(cell: Cell) -> Text:
    from rich.text import Text

    if isinstance(cell, tuple):
        return Text("\n").join(text for text in map(_rich, cell) if text)
    if isinstance(cell, Excerpt):
        return Text.assemble(*((printable(text), "bold yellow" if marked else "") for text, marked in cell.parts()))
    return Text(printable(cell) if isinstance(cell, str) else "")


def say(console: Console, text: str, style: str = "") -> None:
    """A sentence: on a terminal broken between words, behind the spaces that it begins with; piped, one line."""
    from rich.padding import Padding
    from rich.text import Text

    line = printable(text)
    if not console.is_terminal:
        return console.print(line, style=style, soft_wrap=True)
    indent = len(line) - len(line.lstrip())
    return console.print(Padding(Text(line.strip(), style), (0, 0, 0, indent), expand=False))


def printable(text: str, *, limit: int | None = None) -> str:
    """One line of `text` without control characters, which could command the terminal, cut to `limit` characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split()) if limit else line
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def json_text(value: Any) -> str:
    """`value` as one JSON document; dataclasses, mappings and numbers of numpy are understood."""
    return json.dumps(value, default=_json_value, ensure_ascii=False, indent=2)


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def differences(found: Sequence[tuple[float, float, float]], *, digits: int = 4) -> Iterator[tuple[str, str]]:
    """Two cells for each difference (mean, low, high): the mean, and the interval."""
    for mean, low, high in found:
        yield f"{mean:+z.{digits}f}", f"{low:+z.{digits}f} to {high:+z.{digits}f}"


def duration(seconds: float) -> str:
    """A time that was estimated: `under 1 s`, `34 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"


def size(count: float) -> str:
    """Bytes in decimal units: `430 kB`, `2.6 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < KILO:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= KILO
    return f"{count:.1f} TB"


def moment(text: str) -> str:
    """A time of the metadata to the minute: `2026-11-25 04:10 UTC`."""
    return f"{text[:10]} {text[11:16]} UTC" if text else "at an unknown time"
