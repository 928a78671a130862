"""Every recipe has a page among the methods, and the methods' own page leads to every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diptych_training.hooks import RECIPES
from pages import LINK, ROOT, blocks, name

METHODS = ROOT / "docs" / "methods"
PAGES = sorted(path for path in METHODS.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("recipe", [spec.name for spec in RECIPES])
def test_a_recipe_has_a_page_with_a_file_that_names_it(recipe: str) -> None:
    page = METHODS / f"{recipe}.md"
    assert any(f"recipe: {recipe}\n" in block for block in blocks(page, "yaml"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_methods_page_leads_to_it(page: Path) -> None:
    targets = {match["target"] for match in LINK.finditer((METHODS / "README.md").read_text("utf-8"))}
    assert page.name in targets


def test_every_method_of_the_literature_has_a_row_that_says_what_is_here() -> None:
    text = (METHODS / "literature.md").read_text("utf-8")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    methods = [row for row in rows if row[0] != "method"]
    assert len(methods) == 42
    for method, state, here in methods:
        assert state in ("works", "partly", "out of scope"), method
        assert here, f"{method} is {state}: of what, or why?"
        assert state != "works" or LINK.search(here), f"{method} works: where?"


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "literature"], ids=name)
def test_a_method_says_where_it_ends_and_where_it_differs(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.search(r"(?m)^(\*\*Limits\.\*\*|## .*[Ll]imits$)", text), "what it cannot do"
    assert re.search(r"(?m)^(\*\*|## )Differences from the (papers?|study|literature)\b", text), (
        "how it departs from what was published"
    )
    assert re.search(r"`?diptych [a-z]+|`minimal_pairs\(|\bpython tests/benchmarks/", text), "a command"


def test_no_two_pages_train_into_the_same_folder() -> None:
    places = [
        (match[1], page.name) for page in PAGES for match in re.finditer(r"(?m)^output: *(\S+)", page.read_text())
    ]
    folders = [folder for folder, _ in places]
    assert len(places) > 25
    assert not [place for place in places if folders.count(place[0]) > 1]
