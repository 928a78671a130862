"""Manual pages as Markdown: mandoc writes HTML, and its headings, lists and paragraphs become blocks of one text."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import html

BREAK = "\n\n"
BLOCKS = frozenset({"p", "div", "section", "main", "dl", "dt", "dd", "ul", "ol", "li", "table", "pre", "h1", "h2"})
SKIPPED = frozenset({"table.head", "table.foot", "div.manual-foot", "div.manual-head", "nav"})


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page: `heading`, `term` (an option's name), `description` (what it does), `paragraph` or `code`."""

    kind: str
    text: str
    start: int  # in the page's text, in characters

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Page:
    """A manual page: its blocks in order; together, with empty lines between them, they are its text."""

    name: str  # ls.1
    title: str  # ls(1): list directory contents
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        return BREAK.join(block.text for block in self.blocks)


def read_page(file: Path, mandoc: Path) -> Page | None:
    """The page of a source of a manual page; None for one that mandoc renders without any text."""
    command = [str(mandoc), "-T", "html", "-O", "fragment", str(file)]
    rendered = subprocess.run(command, capture_output=True, check=False, cwd=file.parents[1]).stdout
    return page_of(file.name.removesuffix(".gz"), rendered.decode(errors="replace"))


def page_of(name: str, rendered: str) -> Page | None:
    """The page that mandoc has rendered as a fragment of HTML; None if it has no text."""
    root = html.fragment_fromstring(rendered, create_parent="main")
    pieces = [(kind, text) for kind, text in _pieces(root, "paragraph") if text]
    return Page(name, _title(name, pieces), tuple(_placed(pieces))) if pieces else None


def _placed(pieces: list[tuple[str, str]]) -> Iterator[Block]:
    start = 0
    for kind, text in pieces:
        yield Block(kind, text, start)
        start += len(text) + len(BREAK)


def _title(name: str, pieces: list[tuple[str, str]]) -> str:
    """The page's name, and what its first paragraph says of it after the dash."""
    stem, _, section = name.rpartition(".")
    said = next((text for kind, text in pieces if kind != "heading"), "")
    purpose = re.split(r"\s[-–—]+\s", said, maxsplit=1)[1:]
    return f"{stem}({section})" + (f": {purpose[0]}" if purpose else "")


def _pieces(element: html.HtmlElement, kind: str) -> Iterator[tuple[str, str]]:
    """Kind and text of the blocks within an element, in the order of the page; text between blocks is a block, too."""
    loose = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and not _skipped(child):
            if child.tag in BLOCKS:
                yield kind, _line("".join(loose))
                loose = []
                yield from _block(child, kind)
            else:
                loose.append("\n" if child.tag == "br" else child.text_content())
        loose.append(child.tail or "")
    yield kind, _line("".join(loose))


def _block(element: html.HtmlElement, kind: str) -> Iterator[tuple[str, str]]:
    match element.tag:
        case "h1" | "h2":
            yield "heading", "#" * int(element.tag[1]) + " " + _line(element.text_content())
        case "pre":
            code = element.text_content().strip("\n")
            yield "code", f"```\n{code}\n```" if code.strip() else ""
        case "dt":
            yield "term", _line(element.text_content())
        case "table":
            yield "code", "\n".join(_rows(element))
        case "dd":
            yield from _pieces(element, "description")
        case "div" if element.get("class") == "Bd-indent":  # asciidoc writes what an option does as an indented block
            yield from _pieces(element, "description")
        case _:
            yield from _pieces(element, kind)


def _rows(table: html.HtmlElement) -> Iterator[str]:
    for row in table.iter("tr"):
        yield " | ".join(_line(cell.text_content()) for cell in row.iter("td", "th"))


def _skipped(element: html.HtmlElement) -> bool:
    return bool({element.tag, f"{element.tag}.{element.get('class')}"} & SKIPPED)


def _line(text: str) -> str:
    return " ".join(text.split())
