"""Each error text of the page of symptoms is one that a program can meet: it stands in the sources."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pages import ROOT

PAGE = ROOT / "docs" / "symptoms.md"
QUOTED = re.compile(r"`([^`]+)`")


def quoted() -> list[str]:
    rows = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [text for row in rows for text in QUOTED.findall(row)]


@cache
def literals() -> tuple[str, ...]:
    """All strings of the sources and of qdrant-client, with … for what is filled in."""
    client = importlib.util.find_spec("qdrant_client")
    assert client is not None
    assert client.origin is not None
    local = Path(client.origin).parent / "local" / "qdrant_local.py"
    files = [*(path for top in ("plugin", "adapters") for path in (ROOT / top).rglob("*.py")), local]
    return tuple(text for path in files for text in strings(ast.parse(path.read_text(encoding="utf-8"))))


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[rsd]", "…", node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield "".join(map(str, parts))


def stands_in(text: str, literal: str) -> bool:
    """Whether a literal holds the text; … of the text stands for anything."""
    parts = text.split("…")
    if not all(part in literal for part in parts):
        return False
    return re.search(".*".join(map(re.escape, parts)), literal, re.DOTALL) is not None


@pytest.mark.parametrize("text", quoted())
def test_an_error_text_of_the_page_stands_in_the_sources(text: str) -> None:
    found = [literal for literal in literals() if len(literal) < 400 and stands_in(text, literal)]
    assert found, f"no source says {text!r}: fix docs/symptoms.md"
