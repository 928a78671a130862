"""The README is short, and what it names exists: extras, make targets, commands, figures."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from diptych.cli import app
from pages import PAGES, ROOT, name

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
TEXTS = [(page, page.read_text(encoding="utf-8")) for page in PAGES]


def test_the_readme_has_at_most_700_words() -> None:
    assert len(README.split()) <= 700


def test_the_figures_of_the_readme_are_those_of_the_performance_page() -> None:
    figures = set(re.findall(r"\d[\d.]*×", README))
    assert len(figures) > 10
    performance = (ROOT / "docs" / "research" / "performance.md").read_text(encoding="utf-8")
    assert {figure for figure in figures if f"| {figure}" not in performance} == set()


@pytest.mark.parametrize(("page", "text"), TEXTS, ids=[name(page) for page, _ in TEXTS])
def test_extras_commands_and_make_targets_on_a_page_exist(page: Path, text: str) -> None:
    extras = {extra for found in re.findall(r"diptych\[([\w,-]+)\]", text) for extra in found.split(",")}
    assert extras - set(PROJECT["optional-dependencies"]) == set()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^    |`)make ([\w-]+)", text, re.MULTILINE))
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
    commands = set(re.findall(r"(?:^    |^\$ |`)diptych ([a-z]\w+)", text, re.MULTILINE))
    assert commands - set(COMMANDS) - {"does", "knows", "cannot"} == set()  # these begin error texts of symptoms.md
