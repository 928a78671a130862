"""Elements of HTML: tags whose text is escaped, tables, sentences, and texts with marked words.

Styles are inline, since notebooks drop style sheets, and colours are inherited or readable on both light and dark
pages. Text comes from documents and users: it is escaped, isolated from the direction of the text around it, and shown
without control characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

ROWS = 50  # of a table; the rest is counted
TEXT = 320  # characters of a text
GREY, GOOD, BAD, WARNING = "#7d8590", "#2f9e63", "#d1495b", "#b7791f"
LINE = "1px solid rgba(128,128,128,.3)"
_MARK = "background:rgba(255,193,7,.38);color:inherit;border-radius:3px;padding:0 1px"
_CELL = f"padding:4px 10px 4px 0;border:0;border-top:{LINE};vertical-align:top;white-space:normal;max-width:46em"
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Place: TypeAlias = tuple[int, int]


class Html(str):
    """HTML that is written already, and is not escaped again."""

    __slots__ = ()


Content: TypeAlias = str | Html | int


def tag(name: str, *content: Content | None, **attributes: str) -> Html:
    """An element; texts within it and values of attributes are escaped.

    Args:
        name: of the element.
        content: texts and elements; None is left out.
        attributes: with `_` for `-`; `class_` and the like are not needed here.
    """
    written = "".join(f' {key.replace("_", "-")}="{clean(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: Content | None) -> Html:
    """Texts and elements one after another."""
    return Html("".join(own if isinstance(own, Html) else clean(str(own)) for own in content if own is not None))


def clean(text: str) -> str:
    """The text escaped, its control characters and lone surrogates replaced."""
    return text if isinstance(text, Html) else escape(_UNSAFE.sub("\ufffd", text))


def foreign(text: str, *, limit: int = TEXT) -> Html:
    """A text of a document or a user on one line, shortened, and isolated from the direction of the text around it."""
    line = " ".join(text[: 4 * limit].split())
    return tag("bdi", line if len(line) <= limit else f"{line[:limit].rstrip()}…")


def page(sentence: Content, *content: Content | None, mark: str = "") -> Html:
    """A whole picture: the sentence that says it, then the rest.

    Args:
        sentence: the verdict or the headline.
        content: elements below it.
        mark: a colour for the line beside the sentence; none unless given.
    """
    beside = f"border-left:4px solid {mark};padding-left:8px;" if mark else ""
    head = tag("div", sentence, style=f"{beside}font-weight:600;margin:2px 0 6px;max-width:62em")
    style = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;color:inherit;text-align:left"
    return tag("div", head, *content, style=style)


def table(names: Sequence[Content], rows: Iterable[Sequence[Content]], *, right: int | None = None) -> Html:
    """A table of at most 50 rows, and how many there are more.

    Args:
        names: of the columns.
        rows: of as many cells.
        right: the column from which on cells are numbers, and stand to the right.
    """
    listed = list(rows)
    first = len(names) if right is None else right
    head = [
        tag("th", name, style=f"{_CELL};border-top:0;font-weight:600;opacity:.75;text-align:{_side(n, first)}")
        for n, name in enumerate(names)
    ]
    body = [
        tag("tr", *(_cell(cell, n, first) for n, cell in enumerate(row)), style="background:transparent")
        for row in listed[:ROWS]
    ]
    more = note(f"and {len(listed) - ROWS:,} more") if len(listed) > ROWS else None
    style = "border-collapse:collapse;margin:2px 0 6px;border:0;font-size:13px"
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), style=style)
    return join(tag("div", whole, style="overflow-x:auto"), more)


def _cell(cell: Content, column: int, first: int) -> Html:
    numbers = ";font-variant-numeric:tabular-nums;white-space:nowrap" if column >= first else ""
    return tag("td", cell, style=f"{_CELL}{numbers};text-align:{_side(column, first)}")


def _side(column: int, first: int) -> str:
    return "right" if column >= first else "left"


def note(*content: Content | None) -> Html:
    """A line in small print."""
    return tag("div", *content, style="font-size:12px;margin:2px 0;opacity:.8")


def warning(text: str, *, colour: str = WARNING) -> Html:
    """A line that warns; the colour stands beside it, since coloured text is hard to read on some page or other."""
    return tag("div", foreign(text, limit=1000), style=f"margin:3px 0;border-left:4px solid {colour};padding-left:8px")


def notes(texts: Iterable[str]) -> Html:
    """A line in small print for each text."""
    return join(*(note(foreign(text, limit=1000)) for text in texts))


def title(text: str) -> Html:
    """A heading within a picture."""
    return tag("div", text, style="font-weight:600;margin:8px 0 2px")


def quiet(*content: Content | None) -> Html:
    """Text that steps back."""
    return tag("span", *content, style="opacity:.75;font-size:12px")


def marked(text: str, places: Sequence[Place], *, limit: int = TEXT) -> Html:
    """The text with some of its words marked, from a little before the first of them.

    Args:
        text: may be long.
        places: begin and end of each word, in the text; others than these are ignored.
        limit: characters that are shown.
    """
    known = sorted(place for place in places if 0 <= place[0] < place[1] <= len(text))
    begin = max(0, known[0][0] - limit // 4) if known and known[0][1] > limit else 0
    end = min(len(text), begin + limit)
    parts: list[Content] = ["…"] if begin else []
    at = begin
    for first, last in known:
        if at <= first and last <= end:
            parts += [text[at:first], tag("mark", text[first:last], style=_MARK)]
            at = last
    return tag("bdi", *parts, text[at:end], "…" if end < len(text) else None)
