"""Extracts title and text of Markdown, PDF, HTML and DOCX files.

All but Markdown need `pip install "diptych[documents]"`. The libraries are pypdf, lxml and python-docx. Files are not
trusted: nothing is fetched, no entity is resolved, and the unpacked size is limited. A file that cannot be read, or
holds no text, raises a `DocumentError` with the reason.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych.errors import DocumentError, PopulateError

LARGEST = 256 * 2**20  # bytes of a file, and of all parts of an archive unpacked
LONGEST = 20_000_000  # characters of text; populate rejects what is longer than populate.max_characters
SECONDS = 300  # for the pages of one PDF
_BLOCKS = frozenset(
    # Their text stands on lines of its own.
    (
        *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th"),
        *("thead", "title", "tr", "ul"),
    )
)
_UNREAD = ("script", "style", "template", "noscript", "svg", "head", "iframe", "object")
_KEY = re.compile(r"[\w.-]+\s*:(\s|$)")
_TITLE = re.compile(r"title\s*:(.*)", re.IGNORECASE)


def extract(path: Path) -> tuple[str, str]:
    """Title and text of a file; the title is empty if there is none.

    Raises:
        DocumentError: it is damaged, encrypted, too large or without text, or the extra is not installed.
    """
    kind = path.suffix.lower()
    if missing := missing_package(kind):
        raise DocumentError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')
    if path.stat().st_size > LARGEST:
        raise DocumentError("the file is too large", got=f"{path.stat().st_size:,} bytes", expected=f"{LARGEST:,}")
    try:
        title, text = _EXTRACTORS[kind](path)
    except DocumentError:
        raise
    except Exception as error:  # these libraries raise any class of error for broken files
        first = (str(error).strip().splitlines() or ["no message"])[0]
        raise DocumentError(f"unreadable {kind} file: {type(error).__name__}: {first[:200]}") from error
    if not text.strip():
        scanned = ": pages that were scanned are images" if kind == ".pdf" else ""
        raise DocumentError(f"there is no text in the file{scanned}")
    return title.strip(), text.strip()


def missing_package(kind: str) -> str:
    """The missing package that files of this kind need; empty if all are installed."""
    return next((name for module, name in _NEEDED[kind] if importlib.util.find_spec(module) is None), "")


def require_package(kind: str) -> None:
    """Raise PopulateError if files of this kind cannot be read."""
    if kind in _NEEDED and (missing := missing_package(kind)):
        raise PopulateError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')


def _pdf(path: Path) -> tuple[str, str]:
    from pypdf import PdfReader

    with path.open("rb") as file, _silent("pypdf"):
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("the PDF is encrypted: it needs a password")
        pages: list[str] = []
        length, until = 0, time.monotonic() + SECONDS
        for page in reader.pages:
            pages.append(page.extract_text())
            length += len(pages[-1])
            if length > LONGEST or time.monotonic() > until:
                raise DocumentError(
                    "the PDF has too much text or takes too long",
                    got=f"{len(pages)} pages of {len(reader.pages)} so far",
                )
        title = reader.metadata.title if reader.metadata else None
    return str(title or ""), "\n\n".join(pages)


def _html(path: Path) -> tuple[str, str]:
    from lxml import html

    raw = path.read_bytes()
    parser = html.HTMLParser(encoding=_encoding(raw), no_network=True, remove_comments=True, remove_pis=True)
    root: Any = html.document_fromstring(raw, parser=parser)
    heading = next((found for found in (root.find(".//title"), root.find(".//h1")) if found is not None), None)
    title = "" if heading is None else " ".join(heading.text_content().split())
    for element in list(root.iter(*_UNREAD)):
        if element.getparent() is not None:
            element.drop_tree()
    for element in root.iter():
        if element.tag in _BLOCKS:
            element.text, element.tail = "\n" + (element.text or ""), "\n" + (element.tail or "")
    lines = (" ".join(line.split()) for line in root.text_content().splitlines())
    return title, "\n".join(line for line in lines if line)


def _encoding(raw: bytes) -> str | None:
    """UTF-8 if the bytes are valid UTF-8; else what the file declares, or Latin-1."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"


def _docx(path: Path) -> tuple[str, str]:
    from docx import Document

    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > LARGEST:
        raise DocumentError("the archive is too large unpacked", got=f"{unpacked:,} bytes", expected=f"{LARGEST:,}")
    document = Document(str(path))
    text = "\n".join(_blocks(document))
    return document.core_properties.title or "", text


def _blocks(part: Any) -> Iterator[str]:
    """The text of paragraphs, and of tables row by row."""
    from docx.table import Table

    for block in part.iter_inner_content():
        if not isinstance(block, Table):
            yield block.text
            continue
        for row in block.rows:
            cells = {cell._tc: cell for cell in row.cells}  # a merged cell comes once for each that it spans
            yield " | ".join(" ".join(cell.text.split()) for cell in cells.values())


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Suppress a library's warnings about files that it can read anyway."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


_EXTRACTORS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".pdf": _pdf,
    ".html": _html,
    ".htm": _html,
    ".docx": _docx,
}
_NEEDED = {
    ".pdf": (("pypdf", "pypdf"),),
    ".html": (("lxml", "lxml"),),
    ".htm": (("lxml", "lxml"),),
    ".docx": (("lxml", "lxml"), ("docx", "python-docx")),
}
KINDS = tuple(_EXTRACTORS)


def parse_markdown(text: str) -> tuple[str, str]:
    """Title and text: the title is that of the front matter, or else the first heading outside of code blocks.

    The heading leaves the text when it is the title; another one stays.
    """
    matter, lines = _split(text.splitlines())
    at = _heading_at(lines)
    heading = "" if at is None else lines[at].strip("# \t")
    title = _title(matter) or heading
    if at is not None and heading.casefold() == title.casefold():
        del lines[at]
    return title, "\n".join(lines).strip() if matter or title else text


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the front matter, YAML between two `---`, and the rest; a lone rule `---` does not start one."""
    if not lines or lines[0].rstrip() != "---":
        return [], lines
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    matter = lines[1:end]
    return (matter, lines[end + 1 :]) if matter and all(map(_is_yaml, matter)) else ([], lines)


def _is_yaml(line: str) -> bool:
    return not line.strip() or line[0] in " \t#-]}" or _KEY.match(line) is not None


def _title(matter: list[str]) -> str:
    found = next((match[1].strip() for line in matter if (match := _TITLE.match(line))), "")
    if found[:1] in ("'", '"') and found[-1:] == found[:1] and len(found) > 1:
        return found[1:-1].replace("''" if found[0] == "'" else '\\"', found[0]).strip()
    return "" if found[:1] in ("|", ">", "~") or found == "null" else found


def _heading_at(lines: list[str]) -> int | None:
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("#") and line.lstrip("#").startswith(" ") and line.strip("# \t"):
            return number
    return None
