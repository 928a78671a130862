"""Every recipe has a page among the methods, and the methods' own page leads to every one of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import diptych_experimental.hooks
import diptych_training.hooks
from pages import LINK, ROOT, blocks, name

RECIPES = (*diptych_training.hooks.RECIPES, *diptych_experimental.hooks.RECIPES)
METHODS = ROOT / "docs" / "research" / "methods"
PAGES = sorted(path for path in METHODS.glob("*.md") if path.name != "README.md")
OF_METHODS = [page for page in PAGES if page.stem != "literature"]
WITHOUT_CONFIG = {
    "anncur": "functions of Python",
    "bridges": "measured, not offered",
    "data_shift": "functions of Python",
    "double_rounding": "measured, not offered",
    "dual_head": "measured, not offered",
    "dual_view": "measured, not offered",
    "lexlip_text": "measured, not offered",
    "minimal_pairs": "a function of Python",
    "mixture": "measured, not offered",
    "mw": "measured, not offered",
    "residual_codes": "measured, not offered",
    "shapes": "measured, not offered",
    "tas_balanced": "measured, not offered",
}
NUMBER = r"[-+]?(\d*\.\d+|\d+)(e[-+]\d+)?"


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


@pytest.mark.parametrize("page", OF_METHODS, ids=name)
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
    assert len(places) > 10
    assert not [place for place in places if folders.count(place[0]) > 1]


@pytest.mark.parametrize("page", OF_METHODS, ids=name)
def test_a_method_has_a_formula_and_an_effect_with_an_interval(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.search(r"(?m)^(\*\*|## )Formulas?\b", text), "what it computes"
    assert re.search(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]", text), "what it did, with an interval"
    assert re.search(r"\bpython tests/benchmarks/", text), "the command that gives the figures again"


@pytest.mark.parametrize("page", OF_METHODS, ids=name)
def test_a_method_that_is_offered_has_a_config(page: Path) -> None:
    assert bool(blocks(page, "yaml")) != (page.stem in WITHOUT_CONFIG)


def test_every_page_that_a_row_of_the_effects_names_has_the_generated_table_and_its_command() -> None:
    scripts = json.loads((METHODS / "effects.json").read_text("utf-8")).values()
    for stem in {row["page"] for script in scripts for row in script["effects"]}:
        text = (METHODS / f"{stem}.md").read_text("utf-8")
        assert "<!-- effects: written by run_effects.py -->" in text, stem
        assert "python tests/benchmarks/run_effects.py --only " in text, stem
