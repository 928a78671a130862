"""Gets title and text out of PDF, HTML and DOCX files, in a process of its own: `extract` starts it and may kill it.

Files are not trusted: nothing is fetched, no entity is resolved, and text, unpacked size, memory and processor time are
limited. The process answers each line of standard input, a request in JSON, with title and text or what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

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


class Unfit(Exception):
    """What is wrong with a file, what was got and what was expected."""


def main() -> None:
    """Answer the requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), file=answers, flush=True)


def _answer(path: str, seconds: float, memory: int, unpacked: int, characters: int) -> list[str]:
    """Title and text; or what is wrong, got and expected."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no limits, and macOS does not limit the memory
        import resource

        used = int(time.process_time() + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (used, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    kind = Path(path).suffix.lower()
    try:
        if kind == ".docx":
            with zipfile.ZipFile(path) as archive:
                size = sum(part.file_size for part in archive.infolist())
            if size > unpacked:
                raise Unfit("the archive is too large unpacked", f"{size:,} bytes", f"{unpacked:,}")
        title, text = EXTRACTORS[kind](Path(path))
        if len(text) > characters:
            raise Unfit("the file has too much text", f"{len(text):,} characters", f"at most {characters:,}")
    except Unfit as error:
        return [*error.args]
    except MemoryError:
        os._exit(1)  # as at the other limits
    except Exception as error:  # these libraries raise any class of error for broken files
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return [f"unreadable {kind} file: {type(error).__name__}: {first[:200]}", "", ""]
    return [title.strip(), text.strip()]


def _pdf(path: Path) -> tuple[str, str]:
    from pypdf import PdfReader

    with path.open("rb") as file:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unfit("the PDF is encrypted: it needs a password", "", "")
        pages = [page.extract_text() for page in reader.pages]
        title = reader.metadata.title if reader.metadata else None
    return str(title or ""), "\n\n".join(pages)


def _html(path: Path) -> tuple[str, str]:
    from lxml import etree, html

    raw, encoding = path.read_bytes(), None  # what the file declares, or Latin-1
    with suppress(UnicodeDecodeError):
        raw.decode("utf-8")
        encoding = "utf-8"
    parser = html.HTMLParser(encoding=encoding, no_network=True, remove_comments=True, remove_pis=True)
    root: Any = html.document_fromstring(raw, parser=parser)
    heading = next((found for found in (root.find(".//title"), root.find(".//h1")) if found is not None), None)
    title = "" if heading is None else " ".join(heading.text_content().split())
    etree.strip_elements(root, *_UNREAD, with_tail=False)
    for element in root.iter():
        if element.tag in _BLOCKS:
            element.text, element.tail = "\n" + (element.text or ""), "\n" + (element.tail or "")
    lines = (" ".join(line.split()) for line in root.text_content().splitlines())
    return title, "\n".join(line for line in lines if line)


def _docx(path: Path) -> tuple[str, str]:
    from docx import Document

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


EXTRACTORS: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".pdf": _pdf,
    ".html": _html,
    ".htm": _html,
    ".docx": _docx,
}

if __name__ == "__main__":
    main()
