"""Drawings are what their script draws; recordings show commands of diptych line by line; pages show them all."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType
from xml.etree import ElementTree

import pytest

from pages import PAGES, ROOT

IMAGES = ROOT / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


draw, record = script("draw"), script("record")


@pytest.mark.parametrize("name", sorted(draw.DRAWINGS))
def test_a_committed_drawing_is_what_the_script_draws(name: str) -> None:
    assert (IMAGES / name).read_text(encoding="utf-8") == draw.DRAWINGS[name](), "run: python docs/draw.py"


@pytest.mark.parametrize(("name", "commands"), [("search", record.SEARCH), ("swap", record.SWAP)])
def test_a_recording_shows_its_commands_in_order(name: str, commands: list[str]) -> None:
    tree = ElementTree.fromstring((IMAGES / f"{name}.svg").read_text(encoding="utf-8"))
    lines = ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")]
    assert [line[2:] for line in lines if line.startswith("$ ")] == commands


def test_every_picture_is_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {path.name for path in IMAGES.glob("*.svg")} == set(re.findall(r"images/([\w-]+\.svg)", pages))
