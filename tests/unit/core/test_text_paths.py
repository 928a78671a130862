"""Every way that a text takes through diptych executes lines in proportion to the text, whatever it is made of.

Lines of our modules are counted, not time. What `re` does inside of a line is counted in `test_linear_patterns`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import regex_steps
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.config.load import parse_yaml
from diptych.errors import DiptychError
from diptych.passages.text_splitter import MARK, PassageHooks, PassageOptions, Splitter
from diptych.populate import open_source
from diptych.populate.sources.open_source import parse_markdown
from diptych.runtime.environment import conceal, interpolate
from diptych.swap.documents import excerpt, known_item
from diptych.testing import fakes_plugin
from diptych_adapters.lexical import Bm25, NGrams, uncut_share

RUNS = {
    **regex_steps.RUNS,
    "marks": "\u0300\u0316",
    "sentences": "A b. ",
    "headings": "# a\n## b\n",
    "fences": "```\na. B\n```\n\n",
    "list": "\n- a",
    "references": "${a:-",
    "keys": "a: ",
    "Thai": "\u0e01\u0e31",
    "Thai marks": "\u0e31",
    "Chinese": "\u4e2d",
    "names": "a_B",
}
LENGTH, RATIO = 2_000, 5.0


def split(text: str, _: Path) -> None:
    """Passages with titles and headings."""
    splitter = Splitter(PassageOptions(tokens=40, context=("title", "headings")), None, PassageHooks())
    for document in splitter.split([f"{text[:99]}{MARK}{text}"]):
        splitter.read(document)


def words(text: str, _: Path) -> None:
    """The lexicons."""
    Bm25(language="english", identifiers=True).encode_query([text])
    Bm25(language="thai", ascii_folding=True).encode_query([text])
    NGrams().encode_query([text])
    uncut_share([text], cuts_cjk=True)


def queries(text: str, _: Path) -> None:
    """Queries made of documents."""
    known_item("", text)
    excerpt(text)


def yaml(text: str, _: Path) -> None:
    """A config, with the hint for colons."""
    for config in (text, "x: " + text.replace("\n", "") + ": y"):
        with suppress(DiptychError):
            parse_yaml(config, Path("diptych.yaml"))


def references(text: str, _: Path) -> None:
    """References to variables."""
    with suppress(DiptychError):
        interpolate(text)
    conceal("x", text)


def files(text: str, folder: Path) -> None:
    """A file each of text and Markdown, with front matter too."""
    parse_markdown(f"---\ntitle: {text}\n---\n{text}")
    for name in ("a.txt", "a.md"):
        (folder / name).write_text(text)
    list(open_source(folder))


def tables(text: str, folder: Path) -> None:
    """A row that holds the text, and the text in place of rows."""
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), ("a", text)])
    (folder / "b.csv").write_text(f"id,text\na,{text}")
    (folder / "a.jsonl").write_text(json.dumps({"id": "a", "text": text}))
    (folder / "b.jsonl").write_text(text)
    for path in folder.iterdir():
        with suppress(DiptychError):
            list(open_source(path))


@cache
def _opened(text: str, passages: bool) -> Collection:
    dense = {"adapter": "fake-dense", **({"passages": {"tokens": 40, "context": ["headings"]}} if passages else {})}
    slots = {"dense": dense, "lexical": {"adapter": "bm25", "language": "english"}}
    config = {"store": "memory:", "collection": "texts", "slots": slots, "search": {"fuse": {"kind": "rrf"}}}
    collection = Collection.open(parse_config(config), registry=Registry(fakes_plugin))
    collection.populate([{"id": "a", "text": f"zebra {text}"}])
    return collection


def highlights(text: str, _: Path) -> None:
    """The words and the sentence of a hit."""
    _opened(text, False).search("zebra a", limit=1, highlight=True)


def passages(text: str, _: Path) -> None:
    """The best passages of a hit, with words and a sentence."""
    _opened(text, True).search("zebra a", limit=1, passages=2, highlight=True)


PATHS = (split, words, queries, yaml, references, files, tables, highlights, passages)


def lines(work: Callable[[], None]) -> int:
    """The lines of our modules that are executed."""
    count = 0

    def local(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        return local if "diptych" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_executes_lines_in_proportion_to_its_text(
    path: Callable[[str, Path], None], run: str, tmp_path: Path
) -> None:
    texts = [(RUNS[run] * length)[:length] for length in (LENGTH, 4 * LENGTH)]
    for text in (*texts, *texts[:1]):  # loads modules, fills collections and caches of patterns
        path(text, tmp_path)
    few, many = (lines(lambda text=text: path(text, tmp_path)) for text in texts)  # type: ignore[misc]
    assert many <= RATIO * max(few, LENGTH // 10)
