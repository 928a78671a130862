"""The terminal of `diptych judge`: shows a query and a document, and reads keys."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.padding import Padding
from rich.text import Text

from diptych.cli.output import stderr
from diptych.config.yaml_files import as_written
from diptych.display import printable, say

if TYPE_CHECKING:
    from diptych import Collection
    from diptych.types import Metadata
    from diptych_lab.judge import Judging, Pooled, SecondJudging

SHOWN, FACTS = 1500, 300  # characters of a document, and of its id and metadata
KEYS = "0 not relevant · 1 related · 2 relevant · 3 exact · s skip · u undo · q quit"
GRADES = {str(grade): grade for grade in range(4)}


class DocumentTexts:
    """Titles and texts of documents, from the first collection that has them.

    Args:
        collections: those that are searched.
        tenant: whose documents they are, in collections with tenants.
    """

    def __init__(self, collections: Sequence[Collection], tenant: str | None) -> None:
        self._collections, self._tenant = collections, tenant
        self._known: dict[str, str] = {}
        self._metadata: dict[str, Metadata] = {}

    def facts(self, document: str) -> str:
        """The id of a document whose text is known, and its metadata, in a line."""
        values = (f"{key}: {as_written(value)}" for key, value in self._metadata.get(document, {}).items())
        return " · ".join([document, *values])

    def of(self, ids: Iterable[str]) -> dict[str, str]:
        """The texts of these documents, by id; deleted documents are left out."""
        wanted = list(dict.fromkeys(ids))
        for collection in self._collections:
            if missing := [name for name in wanted if name not in self._known]:
                documents = collection.get(missing, tenant=self._tenant)
                self._known |= {document.id: f"{document.title}\n{document.text}".strip() for document in documents}
                self._metadata |= {document.id: document.metadata for document in documents}
        return {name: self._known[name] for name in wanted if name in self._known}


def judge_all(judging: Judging | SecondJudging, texts: DocumentTexts) -> None:
    """Show one pair after another and record the grades, until nothing is left to judge or the judge quits."""
    with without_echo(sys.stdin):
        while pair := judging.next():
            _show(pair, texts)
            key = _key()
            if key == "q":
                stderr().print("stopped; the same command continues here", style="dim")
                return
            if key == "u":
                if not judging.undo():
                    stderr().print("there is nothing to undo", style="yellow")
            else:
                judging.record(pair, GRADES.get(key))


@contextlib.contextmanager
def without_echo(stream: TextIO) -> Iterator[None]:
    """Hide keys that are typed between two documents; they are dropped, since nobody grades what is not shown yet."""
    if sys.platform == "win32" or not stream.isatty():  # on Windows keys are never shown
        yield
        return
    import termios

    before = termios.tcgetattr(stream)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(stream, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)


def _show(pair: Pooled, texts: DocumentTexts) -> None:
    console = stderr()
    console.rule(f"query {pair.number} · {pair.left} documents left", style="dim")
    say(console, pair.query.text, "bold")
    text = texts.of([pair.document]).get(pair.document, "(the document has been deleted)")
    console.print(printable(texts.facts(pair.document), limit=FACTS), style="cyan", soft_wrap=True)
    lines = [printable(line) for line in text[:SHOWN].splitlines() if line.strip()]
    console.print(Padding(Text("\n".join(lines)), (0, 0, 0, 4)))
    console.print(KEYS, style="dim")


def _key() -> str:
    """The next key with a meaning; `q` at the end of the input."""
    import click

    is_terminal = sys.stdin.isatty()  # else a file or a pipe, which is read character by character
    with contextlib.suppress(EOFError):  # Ctrl-D
        while typed := click.getchar() if is_terminal else sys.stdin.read(1):
            for character in typed:  # several, if they were typed fast
                if character in GRADES or character in "suq":
                    return character
    return "q"
